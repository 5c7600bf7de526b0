-- migrate:up
-- A merge can be undone (correction C5). Both contacts carry one side of the merge's mark from then
-- on, `17+` and `17-`, and no event merges contacts with opposite sides of a mark again.
ALTER TABLE ingest.contacts ADD COLUMN kept_apart text[] NOT NULL DEFAULT '{}';
ALTER TABLE ingest.contact_merges ADD COLUMN split_at timestamptz;
CREATE INDEX contact_merges_loser ON ingest.contact_merges (loser);

-- migrate:down
-- Forward only.
