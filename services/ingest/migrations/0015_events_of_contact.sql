-- migrate:up
-- Erasing a person need not read every event. A table that is large already gets the index from the
-- service while it works (`services.ingest.event_table.contact_index`): here webhooks would wait for it.
DO $$
BEGIN
    IF pg_relation_size('ingest.events') < 64 * 1024 * 1024 THEN
        CREATE INDEX IF NOT EXISTS events_of_contact ON ingest.events (contact_id);
    END IF;
END
$$;

-- migrate:down
-- Forward only.
