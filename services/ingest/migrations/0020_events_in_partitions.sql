-- migrate:up
-- Events lie in partitions by the time of their receipt (`services.ingest.event_table.partitions`), and
-- what makes one known lies beside them. Rows that are there stay where they are: their table becomes
-- the default partition, which reads no row, and gets its bounds while the service works
-- (`services.ingest.event_table.unpartitioned`). The version before this one writes to and reads from it as before.
ALTER TABLE ingest.events RENAME TO events_unpartitioned;
CREATE TABLE ingest.events (LIKE ingest.events_unpartitioned INCLUDING DEFAULTS)
    PARTITION BY RANGE (received_at);
ALTER TABLE ingest.events ATTACH PARTITION ingest.events_unpartitioned DEFAULT;

-- The digest is `services.ingest.event_table.known_events`'. `received_at` is the event's, and leads to its partition.
CREATE TABLE ingest.event_keys (
    digest      bytea       PRIMARY KEY,
    received_at timestamptz NOT NULL
);

DO $$
DECLARE
    permission record;
BEGIN
    -- Whoever may read or write the events may go on.
    FOR permission IN
        SELECT privilege_type AS name, is_grantable,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS whose
        FROM pg_class, LATERAL aclexplode(relacl)
        WHERE oid = to_regclass('ingest.events_unpartitioned') AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON ingest.events TO %s%s', permission.name, permission.whose,
            CASE WHEN permission.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    -- Where no version before ever ran (`hogsend.service.migrations`), the table is empty and nobody's.
    IF obj_description(to_regclass('ingest.schema_migrations'), 'pg_class') >= 'began with 0020' THEN
        DROP TABLE ingest.events_unpartitioned;
    END IF;
END
$$;

-- migrate:down
-- Forward only.
