-- migrate:up
-- Contacts are searched by what their address or first user id begins with. A table that is large
-- already gets the indexes from the service while it works (`services.ingest.contacts.search`).
DO $$
BEGIN
    IF pg_relation_size('ingest.contacts') < 64 * 1024 * 1024 THEN
        CREATE INDEX IF NOT EXISTS contacts_by_email_prefix
            ON ingest.contacts (lower(left(email, 100)) text_pattern_ops);
        CREATE INDEX IF NOT EXISTS contacts_by_user_prefix
            ON ingest.contacts (lower(left(external_id, 100)) text_pattern_ops);
    END IF;
END
$$;

-- migrate:down
-- Forward only.
