-- migrate:up
-- When JetStream queued an event, and when it was stored: its whole way with times. Events before
-- this have neither. The default is set on its own, so that they are not given this moment; the
-- version before this one fills it without knowing.
ALTER TABLE ingest.events ADD COLUMN queued_at timestamptz, ADD COLUMN stored_at timestamptz;
ALTER TABLE ingest.events ALTER COLUMN stored_at SET DEFAULT statement_timestamp();

-- migrate:down
-- Forward only.
