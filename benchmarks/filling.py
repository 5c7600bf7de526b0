"""Contacts and events by the million, as ingest would have stored them, written by PostgreSQL.

Events are spread evenly over `DAYS` of receipt, and so over the partitions that they would lie in.
Their ids are UUIDs of version 7 and of the event's own time, as PostHog's are, so that their keys
lie in the index as they would: those of one time together.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.event_table.partitions import TablePartitions, list_partitions

DAYS = 360
"""Days that the events are spread over."""

# As the events that are stored describe them: nearly every event is of a known person.
_CONTACTS = """
WITH filled AS (
    INSERT INTO contacts (id, source, external_id, email, email_version, properties, versions,
        created_at, first_seen_at, last_seen_at)
    SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'posthog', 'u_' || n,
        address, version,
        jsonb_build_object('email', address, 'plan', 'pro', '$geoip_country_code', 'GB'),
        jsonb_build_object('email', version, 'plan', version, '$geoip_country_code', version),
        now(), now(), now()
    FROM generate_series(0, $1::int - 1) AS n,
        LATERAL (SELECT 'u' || n || '@example.com' AS address) AS person,
        jsonb_build_array(1700000000000000, 'the event before') AS version
    RETURNING id, external_id, email
)
INSERT INTO contact_keys (kind, digest, value, contact_id)
SELECT kind, sha256(convert_to(value, 'UTF8')), value, id
FROM filled, LATERAL (VALUES ('external', external_id), ('email', email)) AS key (kind, value)
"""
# The digest is `event_keys.digest_of`, which tests compare it with.
_EVENTS = """
WITH filled AS (
    INSERT INTO events
        (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
    SELECT 'posthog',
        left(time, 8) || '-' || right(time, 4) || '-7' || substr(gen_random_uuid()::text, 16),
        CASE WHEN n % 10000 = 0 THEN 'rare' ELSE 'e' || n % 20 END, 'u_' || person,
        ('00000000-0000-4000-8000-' || lpad(to_hex(person), 12, '0'))::uuid,
        '{"$lib": "web", "plan": "free", "value": 149.9,'
            ' "$current_url": "https://example.com/a/b/c"}',
        at, at + interval '1 second'
    FROM generate_series($1::bigint, $2::bigint - 1) AS n,
        LATERAL (SELECT n * 7919 % $3::int AS person,
            $6::timestamptz - ($4::int - n::float8 / $5::bigint * $4::int) * interval '1 day'
            AS at) AS drawn,
        LATERAL (SELECT
            lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') AS time) AS began
    RETURNING id, event, user_id, received_at
)
INSERT INTO event_keys (digest, received_at)
SELECT decode(left(id, 8) || substr(id, 10, 4), 'hex') || substring(sha256(convert_to(
        '["posthog","' || id || '","' || event || '","' || user_id || '"]', 'UTF8')) FOR 10),
    received_at
FROM filled
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'ingest' AND tablename = ANY($1)
"""
_GIVE_BACK = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT relid, pg_get_userbyid(relowner) AS owner
        FROM pg_partition_tree('events'), pg_class WHERE isleaf AND oid = 'events'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', one.relid, one.owner);
    END LOOP;
END
$$
"""
_CHUNK = 500_000


async def fill(database: Database, connection: Any, events: int, contacts: int) -> None:
    """Put so many contacts and events into an empty database."""
    await connection.execute(_CONTACTS, contacts)
    await connection.execute("VACUUM ANALYZE contacts, contact_keys")
    await make_partitions(database)
    await grow(connection, 0, events, contacts, events)


async def fill_stack(url: str, events: int, contacts: int) -> None:
    """Fill the database of a running stack."""
    database = Database(url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    connection = await asyncpg.connect(url, server_settings={"search_path": "ingest"})
    await fill(database, connection, events, contacts)
    # The user that fills may be another than the service's, which drops them one day.
    await connection.execute(_GIVE_BACK)
    await connection.close()
    await database.close()


async def make_partitions(database: Database) -> None:
    """Make room for events of all the days, and of the next, as if they had come one by one."""
    today = datetime.now(UTC)
    days = range(-1, DAYS + 1)
    await TablePartitions(database).ensure_partitions([today - timedelta(days=day) for day in days])


async def grow(connection: Any, begin: int, end: int, contacts: int, largest: int) -> None:
    """Add events from the number `begin` until before `end`, of `largest` that there will be."""
    if begin == end:
        return
    now = datetime.now(UTC)
    since, until = (now - timedelta(days=DAYS * (1 - n / largest)) for n in (begin, end))
    partitions = [
        one.name
        for one in await list_partitions(connection)
        # What is filled is received a second later than it happened.
        if one.begins <= until + timedelta(seconds=1) and one.ends > since
    ]
    # Made anew from all rows: entry by entry they took most of an hour on a busy machine.
    indexes = await connection.fetch(_INDEXES, partitions)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['indexname']}")
    for first in range(begin, end, _CHUNK):
        last = min(first + _CHUNK, end)
        await connection.execute(_EVENTS, first, last, contacts, DAYS, largest, now)
        print(f"{last:,} events ...", file=sys.stderr)
    await connection.execute("SET maintenance_work_mem = '512MB'")
    for index in indexes:
        await connection.execute(index["indexdef"])
    await connection.execute("VACUUM ANALYZE events, event_keys")
    # What was written is on disk before anything is measured.
    await connection.execute("CHECKPOINT")
