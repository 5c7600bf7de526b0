-- migrate:up
-- When the events that a backfill brings now count as received; NULL is when it started. One that goes on
-- after months would bring them into partitions that are dropped, or were.
ALTER TABLE provisioner.backfills ADD COLUMN received_at timestamptz;

-- migrate:down
-- Forward only.
