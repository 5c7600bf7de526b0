-- migrate:up
-- Which event of PostHog's was left out because it is too large to be read; the last of them.
ALTER TABLE provisioner.backfills ADD COLUMN left_out text;

-- migrate:down
-- Forward only.
