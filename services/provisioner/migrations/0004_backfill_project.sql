-- migrate:up
-- The project whose events a backfill reads, by its address in PostHog. NULL for one from before.
ALTER TABLE provisioner.backfills ADD COLUMN project text;

-- migrate:down
-- Forward only.
