"""The index by contact: created at once on a small table, in the background on a large one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service import background_index
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts.search import search_indexes
from services.ingest.erasure import jobs
from services.ingest.event_table.contact_index import contact_index
from services.ingest.event_table.partitions import list_partitions
from tests.older_schema import migrate_to
from tests.pgbouncer import PROGRAM, pgbouncer
from tests.waiting import eventually

EVENT = """
INSERT INTO events_unpartitioned (source, id, event, user_id, contact_id, properties, occurred_at,
    received_at)
SELECT 'posthog', $1 || n, 'e', 'u', gen_random_uuid(), '{}', now(), now()
FROM generate_series(1, $2::int) AS n
"""
VALID = """
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ingest.events_of_contact')
"""
BLOCKS = 8_300
"""Blocks with a row each: a little over 64 MiB."""
LARGE = """
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', n, 'e', 'u', gen_random_uuid(), to_jsonb(repeat('x', 5000)), now(), now()
FROM generate_series(1, $1::int) AS n
"""


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_index, "RETRY_SECONDS", 0.02)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An upgraded database, with one event in the unpartitioned table of earlier versions."""
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=4)
    await migrate_to(database_url, "ingest", MIGRATIONS, 19, tmp_path)
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    await connection.execute(EVENT.replace("events_unpartitioned", "events"), "first", 1)
    await connection.close()
    await database.connect()
    yield database
    await database.close()


async def drop(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute("DROP INDEX events_of_contact")


async def is_valid(database: Database) -> bool | None:
    async with database.acquire() as connection:
        valid: bool | None = await connection.fetchval(VALID)
    return valid


async def is_being_built(database: Database) -> bool:
    async with database.acquire() as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"))


async def test_the_migration_creates_the_index_of_a_small_table(database: Database) -> None:
    assert await is_valid(database)
    await contact_index(database).ensure_built()


async def test_the_migration_does_not_create_the_index_of_a_large_table(
    database_url: str, tmp_path: Path
) -> None:
    await migrate_to(database_url, "ingest", MIGRATIONS, 14, tmp_path)
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    await connection.execute("ALTER TABLE events ALTER COLUMN properties SET STORAGE PLAIN")
    await connection.execute(LARGE, BLOCKS)
    migration = (MIGRATIONS / "0015_events_of_contact.sql").read_text()
    await connection.execute(migration)
    assert await connection.fetchval(VALID) is None
    await connection.execute("TRUNCATE events")
    await connection.execute(migration)
    assert await connection.fetchval(VALID)
    await connection.close()


async def test_a_missing_table_needs_no_index(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute("DROP TABLE events_unpartitioned")
    await contact_index(database).ensure_built()
    assert await is_valid(database) is None


async def test_events_are_stored_while_the_index_is_built(database: Database) -> None:
    await drop(database)
    async with database.acquire() as open_connection:
        # Building waits for transactions that started before it.
        transaction = open_connection.transaction()
        await transaction.start()
        await open_connection.execute(EVENT, "before", 1)
        build = asyncio.create_task(contact_index(database).ensure_built())
        other = asyncio.create_task(contact_index(database).ensure_built())
        await eventually(lambda: is_being_built(database))
        async with database.acquire() as connection:
            await connection.execute(EVENT, "meanwhile", 1)
        assert not build.done()
        assert not other.done()
        await transaction.commit()
    await asyncio.gather(build, other)
    assert await is_valid(database)


async def test_an_invalid_index_of_an_interrupted_build_is_rebuilt(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'ingest.events_of_contact'::regclass"
        )
    await contact_index(database).ensure_built()
    assert await is_valid(database)


async def test_a_build_that_was_cancelled_is_repeated(
    database: Database,
) -> None:
    await drop(database)
    async with database.acquire() as open_connection, open_connection.transaction():
        await open_connection.execute(EVENT, "before", 1)
        build = asyncio.create_task(contact_index(database).ensure_built())
        await eventually(lambda: is_being_built(database))
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build

        async def has_stopped() -> bool:
            return not await is_being_built(database)

        await eventually(has_stopped)
    await contact_index(database).ensure_built()
    assert await is_valid(database)


async def test_a_time_limit_of_the_address_does_not_apply_to_the_build(
    database: Database, database_url: str
) -> None:
    await drop(database)
    separator = "&" if "?" in database_url else "?"
    options = f"{separator}options=-c%20statement_timeout%3D50ms%20-c%20lock_timeout%3D50ms"
    limited = Database(f"{database_url}{options}", "ingest", MIGRATIONS, pool_size=1)
    await limited.connect()

    async def is_over_the_limits() -> bool:
        async with database.acquire() as connection:
            return bool(
                await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%'"
                    " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '0.2 s'"
                )
            )

    async with database.acquire() as open_connection, open_connection.transaction():
        await open_connection.execute(EVENT, "before", 1)
        build = asyncio.create_task(contact_index(limited).ensure_built())
        await eventually(is_over_the_limits)
    await build
    assert await is_valid(database)
    await limited.close()


async def test_the_build_waits_for_the_migrations(database_url: str) -> None:
    unconnected = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    with pytest.raises(Unavailable):
        async with unconnected.outside_transactions():
            pass


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
async def test_the_index_is_built_through_a_pooler(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await drop(database)
    async with pgbouncer(database_url, "transaction", tmp_path) as url:
        pooled = Database(url, "ingest", MIGRATIONS, pool_size=2)
        await pooled.connect()
        await contact_index(pooled).ensure_built()
        await pooled.close()
    assert await is_valid(database)


async def test_the_query_that_erases_a_person_uses_the_index(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(EVENT, "a", 2_000)
        await connection.execute("ANALYZE events_unpartitioned")
        (partition,) = await list_partitions(connection)
        plan = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) {jobs._queries.lock_events.sql}",
            [UUID(int=1), UUID(int=2)],
            *(partition.relation, partition.begins, partition.ends, 100),
        )
    assert "events_of_contact" in plan


async def test_the_service_and_the_migration_create_the_same_search_indexes(
    database: Database,
) -> None:
    definitions = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'contacts_by_%' ORDER BY 1"
    )
    async with database.acquire() as connection:
        migrated = await connection.fetch(definitions)
        for name, _ in migrated:
            await connection.execute(f"DROP INDEX {name}")
    for index in search_indexes(database):
        await index.ensure_built()
    async with database.acquire() as connection:
        assert await connection.fetch(definitions) == migrated
    assert [name for name, _ in migrated] == ["contacts_by_email_prefix", "contacts_by_user_prefix"]
