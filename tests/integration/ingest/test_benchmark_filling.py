"""The benchmarks fill a database with the rows that ingest would have stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from benchmarks import filling
from benchmarks.ids import new_id
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.event_table.event_keys import digest_of
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventKey, EventRef, IncomingEvent

EVENTS, CONTACTS = 500, 10
_INDEXES = """
SELECT relid::regclass::text AS partition, count(indexrelid) AS indexes
FROM pg_partition_tree('events') LEFT JOIN pg_index ON indrelid = relid WHERE isleaf GROUP BY relid
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    await filling.fill(database, connection, EVENTS, CONTACTS)
    await connection.close()
    yield database
    await database.close()


async def test_every_filled_event_has_the_key_that_ingest_would_store(database: Database) -> None:
    async with database.acquire() as connection:
        events = await connection.fetch(
            "SELECT source, id, event, user_id, received_at, occurred_at FROM events"
        )
        keys = await connection.fetch("SELECT digest, received_at FROM event_keys")
    assert len(events) == EVENTS
    assert {tuple(row) for row in keys} == {
        (digest_of(EventKey(*row[:4])), row["received_at"]) for row in events
    }
    for row in events:
        milliseconds = row["occurred_at"].timestamp() * 1000
        assert abs((UUID(row["id"]).int >> 80) - milliseconds) <= 1
        assert UUID(row["id"]).version == 7


async def test_ingest_recognizes_a_filled_event_as_stored(database: Database) -> None:
    store = EventStore(database, EventTable(database))
    async with database.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM events ORDER BY received_at LIMIT 1")
    assert row is not None
    now = datetime.now(UTC)
    again = IncomingEvent(
        ref=EventRef(row["source"], row["id"]),
        name=row["event"],
        user_id=row["user_id"],
        email=None,
        occurred_at=row["occurred_at"],
        received_at=now,
        properties={},
        person_properties={},
    )
    assert await store.save([again]) == [Saved(Status.KNOWN, row["user_id"])]


async def test_filled_partitions_have_their_indexes(database: Database) -> None:
    async with database.acquire() as connection:
        partitions = await connection.fetch(_INDEXES)
    assert len(partitions) >= filling.DAYS // 30
    assert {row["indexes"] for row in partitions} == {6}


def test_new_ids_are_uuids_of_version_7_with_the_current_time() -> None:
    before = datetime.now(UTC).timestamp()
    id = UUID(new_id())
    assert id.version == 7
    assert id.variant == "specified in RFC 4122"
    assert before - 1 < (id.int >> 80) / 1000 < before + 60
