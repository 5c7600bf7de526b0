-- migrate:up
-- Events that a backfill read from PostHog, as opposed to those that came as they happened.
ALTER TABLE ingest.events ADD COLUMN backfilled boolean NOT NULL DEFAULT false;

-- migrate:down
-- Forward only.
