"""Fills a database with millions of contacts and events, in the form in which ingest stores them.

SQL generates the rows. Events are spread evenly over `DAYS` of receipt, and so over partitions.
Like PostHog's, their ids are UUIDs of version 7 with the event's time, so that keys of the same
time are next to each other in the index.
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

# Each contact has the values that its events would have given it.
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
            lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') AS time) AS started
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
_SET_OWNER = """
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
    """Add contacts and events to an empty database."""
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
    # New partitions belong to the user of this connection, but ingest has to drop them later.
    await connection.execute(_SET_OWNER)
    await connection.close()
    await database.close()


async def make_partitions(database: Database) -> None:
    """Create the partitions for the events of all days, and of the next day."""
    today = datetime.now(UTC)
    days = range(-1, DAYS + 1)
    await TablePartitions(database).ensure_partitions([today - timedelta(days=day) for day in days])


async def grow(connection: Any, begin: int, end: int, contacts: int, largest: int) -> None:
    """Add the events with the numbers from `begin` to before `end`.

    Args:
        connection: connection to the database.
        begin: number of the first event.
        end: number after that of the last event.
        contacts: number of contacts.
        largest: final number of events, over which `DAYS` are spread.
    """
    if begin == end:
        return
    now = datetime.now(UTC)
    since, until = (now - timedelta(days=DAYS * (1 - n / largest)) for n in (begin, end))
    partitions = [
        partition.name
        for partition in await list_partitions(connection)
        # The generated events are received a second after they happened.
        if partition.begins <= until + timedelta(seconds=1) and partition.ends > since
    ]
    # Indexes are rebuilt at the end: updating them for each row took nearly an hour.
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
    # All pages must be on disk before the measurement starts.
    await connection.execute("CHECKPOINT")
