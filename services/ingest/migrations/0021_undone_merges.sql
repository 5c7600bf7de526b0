-- migrate:up
-- A merge that was undone is a fact about two contacts. What they and others were before it is needed
-- no more, and an erasure would have to look for its person there.
UPDATE ingest.contact_merges SET loser_before = '{}', survivor_before = NULL, loser_keys = '[]'
WHERE split_at IS NOT NULL;

-- migrate:down
-- Forward only.
