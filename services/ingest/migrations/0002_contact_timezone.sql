-- migrate:up
-- Filled only while it is empty, from what PostHog knows (contract 4.2).
ALTER TABLE ingest.contacts ADD COLUMN timezone text;

-- migrate:down
-- Forward only.
