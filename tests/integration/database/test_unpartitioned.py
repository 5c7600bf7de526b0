"""The unpartitioned table of earlier versions becomes a partition with bounds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import ListEvents
from hogsend.service.database import Database
from hogsend.service.migrations import MigrationFailed, migrate
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.retention import Retention
from services.ingest.app import MIGRATIONS
from services.ingest.erasure.jobs import ErasureJobs
from services.ingest.event_table import event_keys, partitions
from services.ingest.event_table import unpartitioned as module
from services.ingest.event_table.partitions import EARLIEST, LATEST, UNPARTITIONED, list_partitions
from services.ingest.event_table.unpartitioned import Unpartitioned
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.listing import EventList
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from tests.event_rows import statuses
from tests.integration.database.test_event_partitions import erasure_of, incoming
from tests.older_schema import migrate_to
from tests.pgbouncer import PROGRAM, pgbouncer
from tests.postgres_locks import waiting_for_a_lock
from tests.waiting import eventually

LAST_UNPARTITIONED = 19
"""Number of the last migration without partitions."""
OLD = """
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', 'old ' || n, 'e', 'anna', '00000000-0000-0000-0000-000000000000', '{}',
    now() - n * interval '1 day', now() - n * interval '1 day'
FROM generate_series(1, $1::int) AS n
"""
ROWS = 100
CONTACT = UUID(int=0)
"""The contact of the rows of the previous version."""

# The query and the columns with which the previous version deduplicates and stores events.
PREVIOUS_QUERY = """
SELECT received_at FROM events WHERE source = $1 AND id = $2
    AND hashtextextended(event, 0) = hashtextextended('e', 0)
    AND hashtextextended(user_id, 0) = hashtextextended('anna', 0)
"""
PREVIOUS_COLUMNS = (
    *("source", "id", "event", "user_id", "contact_id", "properties", "occurred_at"),
    *("received_at", "correlation_id", "backfilled", "queued_at"),
)


async def connect_previous(url: str, directory: Path) -> Any:
    """Create the schema of the previous version in a new database, and connect to it."""
    await migrate_to(url, "ingest", MIGRATIONS, LAST_UNPARTITIONED, directory)
    return await asyncpg.connect(url, server_settings={"search_path": "ingest"})


@pytest.fixture
async def rows(database_url: str, tmp_path: Path) -> AsyncIterator[Any]:
    """A separate connection to a database of the previous version that contains events."""
    connection = await connect_previous(database_url, tmp_path)
    await connection.execute(OLD, ROWS)
    yield connection
    await connection.close()


@pytest.fixture
async def database(rows: Any, database_url: str) -> AsyncIterator[Database]:
    """The database of `rows`, upgraded to this version."""
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=4)
    await database.connect()
    yield database
    await database.close()


def store_of(database: Database) -> EventStore:
    return EventStore(database, EventTable(database))


def row_of_the_previous_version(id: str, at: datetime) -> tuple[object, ...]:
    return ("posthog", id, "e", "anna", CONTACT, "{}", at, at, None, False, None)


def old(number: int) -> Any:
    return incoming(f"old {number}")


async def keep_unbounded(_: Database) -> None:
    pass


async def set_bounds(database: Database) -> None:
    assert await EventTable(database).maintain()


async def add_constraint(database: Database) -> None:
    await Unpartitioned(database)._constrain()


@pytest.mark.parametrize("reach_stage", [keep_unbounded, add_constraint, set_bounds])
async def test_old_events_are_deduplicated_listed_and_erased_at_every_stage(
    database: Database, rows: Any, reach_stage: Callable[[Database], Awaitable[None]]
) -> None:
    await reach_stage(database)
    store = store_of(database)
    assert statuses(await store.save([old(1), old(ROWS), incoming("new")])) == [
        Status.KNOWN,
        Status.KNOWN,
        Status.STORED,
    ]
    assert statuses(await store.save([incoming("new"), old(50)])) == [
        Status.REDELIVERED,
        Status.KNOWN,
    ]
    page = await EventList(database).page(ListEvents(limit=200))
    assert len(page.events) == page.total == ROWS + 1
    times = [event.occurred_at for event in page.events]
    assert times == sorted(times, reverse=True)
    assert await ErasureJobs(database).delete_events(erasure_of(CONTACT)) == ROWS
    assert await rows.fetchval("SELECT array_agg(id) FROM events") == ["new"]


@pytest.mark.parametrize("reach_stage", [keep_unbounded, add_constraint, set_bounds])
async def test_the_previous_version_works_while_this_version_runs(
    database: Database, rows: Any, reach_stage: Callable[[Database], Awaitable[None]]
) -> None:
    await reach_stage(database)
    store = store_of(database)
    await store.save([incoming("new")])
    # Each version recognises duplicates of events that the other one stored.
    for id in ("new", "old 1"):
        assert await rows.fetchval(PREVIOUS_QUERY, "posthog", id) is not None
    at = datetime.now(UTC)
    await rows.copy_records_to_table(
        "events", columns=PREVIOUS_COLUMNS, records=[row_of_the_previous_version("concurrent", at)]
    )
    again = incoming("concurrent")
    assert statuses(await store.save([again])) == [Status.KNOWN]
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.copy_records_to_table(
            "events", columns=PREVIOUS_COLUMNS, records=[row_of_the_previous_version("new", at)]
        )
    assert await rows.fetchval("SELECT count(*) FROM events") == ROWS + 2


async def test_an_old_backfilled_event_gets_a_key_when_it_arrives_live(
    database: Database, rows: Any
) -> None:
    await rows.execute("UPDATE events SET backfilled = true")
    await set_bounds(database)
    store = store_of(database)
    later = datetime.now(UTC) + timedelta(days=60)
    live = incoming("old 1", later)
    assert statuses(await store.save([live])) == [Status.REDELIVERED]
    assert statuses(await store.save([live])) == [Status.REDELIVERED]
    assert await rows.fetchval("SELECT count(*) FROM event_keys") == 1
    assert await rows.fetchval("SELECT count(*) FROM events") == ROWS


async def test_the_table_becomes_the_partition_up_to_a_week_from_now(
    database: Database, rows: Any
) -> None:
    (before,) = await list_partitions(rows)
    assert (before.name, before.ends) == (UNPARTITIONED, LATEST)
    assert await EventTable(database).maintain()
    first, *_ = await list_partitions(rows)
    assert first.name == UNPARTITIONED
    assert first.relation == before.relation
    now = datetime.now(UTC)
    assert now + timedelta(days=7) <= first.ends <= now + timedelta(days=8)
    assert (
        await rows.fetchval(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'",
            UNPARTITIONED,
        )
        == 0
    )
    # Later events are stored in other partitions, and no further step remains.
    store = store_of(database)
    assert statuses(await store.save([incoming("later", first.ends)])) == [Status.STORED]
    assert await EventTable(database).maintain()
    assert await rows.fetchval("SELECT count(*) FROM events_unpartitioned") == ROWS


async def test_only_the_period_without_keys_is_searched_for_duplicates(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    find_stored = event_keys._find_stored

    async def record(connection: Any, keys: Any) -> Any:
        searched.extend(before.date().isoformat() for *_, before in keys)
        return await find_stored(connection, keys)

    monkeypatch.setattr(event_keys, "_find_stored", record)
    table = EventTable(database)
    store = EventStore(database, table)
    await store.save([incoming("1")])
    assert searched == [LATEST.date().isoformat()]
    await table.maintain()
    await store.save([incoming("2")])
    first, *_ = await list_partitions(rows)
    assert searched[1:] == [first.ends.date().isoformat()]
    await rows.execute("DROP TABLE events_unpartitioned")
    await table.maintain()
    await store.save([incoming("3")])
    assert len(searched) == 2


async def test_events_are_stored_while_the_table_is_validated(
    database: Database, rows: Any
) -> None:
    # Validation waits for this lock, as would a statement that needs a stronger lock.
    async with rows.transaction():
        await add_constraint(database)
        await rows.execute(f"LOCK TABLE {UNPARTITIONED} IN SHARE UPDATE EXCLUSIVE MODE")
        bounding = asyncio.create_task(Unpartitioned(database).bound())
        async with database.acquire() as connection:
            await waiting_for_a_lock(connection, "VALIDATE CONSTRAINT")
        assert statuses(await store_of(database).save([incoming("new")])) == [Status.STORED]
        assert not bounding.done()
    assert await bounding


async def test_a_reader_that_blocks_the_bounds_is_logged_and_does_not_block_events(
    database: Database, rows: Any
) -> None:
    async with rows.transaction():
        await rows.fetch("SELECT FROM events")
        with pytest.raises(Unavailable):
            await EventTable(database).maintain()
        assert statuses(await store_of(database).save([incoming("new")])) == [Status.STORED]
        with capture_logs() as logs:
            upkeep = asyncio.create_task(EventTable(database).maintain_forever())

            async def is_logged() -> bool:
                return any("fix" in line for line in logs)

            await eventually(is_logged)
            upkeep.cancel()
        (line,) = [line for line in logs if "fix" in line]
        assert line["log_level"] == "warning"
        assert "pg_stat_activity" in line["fix"]
    assert await EventTable(database).maintain()


async def test_concurrent_replicas_set_the_bounds_once(database: Database, rows: Any) -> None:
    results = await asyncio.gather(
        *(EventTable(database).maintain() for _ in range(4)), return_exceptions=True
    )
    assert True in results
    assert all(result in {True, False} or isinstance(result, Unavailable) for result in results)
    assert await EventTable(database).maintain()
    assert [partition.name for partition in await list_partitions(rows)].count(UNPARTITIONED) == 1


async def test_an_event_after_the_end_of_an_interrupted_attempt_is_stored(
    database: Database, rows: Any
) -> None:
    # The attempt was interrupted, and no service ran for days.
    await add_constraint(database)
    store = store_of(database)
    late = incoming("late", datetime.now(UTC) + timedelta(days=50))
    assert statuses(await store.save([late, incoming("now")])) == [Status.STORED] * 2
    # The end that is chosen then is after the latest event.
    results = [await EventTable(database).maintain() for _ in range(2)]
    assert results == [False, True]
    first, *_ = await list_partitions(rows)
    assert first.contains(late.received_at)
    assert await rows.fetchval("SELECT count(*) FROM events") == ROWS + 2


async def test_an_upper_bound_that_is_too_near_is_postponed(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_constraint(database)
    monkeypatch.setattr(module, "MIN_REMAINING", timedelta(days=9))
    monkeypatch.setattr(module, "AHEAD", timedelta(days=19))
    assert await EventTable(database).maintain()
    first, *_ = await list_partitions(rows)
    assert first.ends > datetime.now(UTC) + timedelta(days=19)


async def test_the_table_is_swept_by_row_and_dropped_when_all_rows_are_old(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = EventTable(database, retention_days=7)
    assert await table.maintain()
    retention = Retention(database, UNPARTITIONED, column="received_at", days=7)
    assert await retention.sweep() == ROWS - 7 + 1
    assert await rows.fetchval("SELECT count(*) FROM events") == 6

    # All rows are old by both clocks: the replica's and PostgreSQL's.
    later = datetime.now(UTC) + timedelta(days=30)
    monkeypatch.setattr(partitions, "datetime", SimpleNamespace(now=lambda _: later))
    by_postgresql = AsyncMock(return_value=later - timedelta(days=7))
    monkeypatch.setattr(partitions._queries, "days_ago", by_postgresql)
    assert await table.maintain()
    assert UNPARTITIONED not in {partition.name for partition in await list_partitions(rows)}
    assert await retention.sweep() == 0
    assert statuses(await store_of(database).save([incoming("old 1")])) == [Status.STORED]


async def test_an_event_without_a_contact_from_the_previous_version_is_deduplicated(
    database: Database, rows: Any
) -> None:
    # No contact is locked for such an event.
    row = list(row_of_the_previous_version("anonymous", datetime.now(UTC)))
    row[3] = ""
    store = store_of(database)
    concurrent = rows.transaction()
    await concurrent.start()
    await rows.copy_records_to_table("events", columns=PREVIOUS_COLUMNS, records=[tuple(row)])
    saving = asyncio.create_task(store.save([incoming("anonymous", user_id="")]))
    await waiting_for_a_lock(rows)
    await concurrent.commit()
    assert statuses(await saving) == [Status.KNOWN]


async def test_events_of_a_restored_backup_are_deduplicated(database: Database, rows: Any) -> None:
    table = EventTable(database)
    # As if the process had started before the restore.
    table.keys._unkeyed_until = EARLIEST
    store = EventStore(database, table)
    assert statuses(await store.save([old(1)])) == [Status.KNOWN]
    assert statuses(await store.save([old(2), incoming("new")])) == [Status.KNOWN, Status.STORED]


async def test_an_event_that_the_previous_version_moved_keeps_its_contact(
    database: Database, rows: Any
) -> None:
    store = store_of(database)
    await store.save([incoming("1", backfilled=True)])
    live = incoming("1", datetime.now(UTC))
    await rows.execute(
        "UPDATE events SET backfilled = false, received_at = $1 WHERE id = '1'", live.received_at
    )
    assert await store.save([live]) == [Saved(Status.REDELIVERED, "anna")]


async def test_old_keys_are_deleted_while_the_unpartitioned_table_exists(
    database: Database, rows: Any
) -> None:
    table = EventTable(database, retention_days=7)
    await table.maintain()
    await rows.execute("INSERT INTO event_keys VALUES ('old', now() - interval '9 days')")
    _, keys = table.retentions()
    assert await keys.sweep() == 1


async def test_a_time_limit_of_the_address_does_not_apply_to_validating_the_table(
    database: Database, database_url: str, rows: Any
) -> None:
    options = "options=-c%20statement_timeout%3D1s"
    separator = "&" if "?" in database_url else "?"
    limited = Database(f"{database_url}{separator}{options}", "ingest", MIGRATIONS, pool_size=1)
    end = await Unpartitioned(database)._constrain()
    # Through a pooler a session cannot change the limit.
    limited._pool, limited._is_behind_pooler = database._pool, True
    async with limited.outside_transactions() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "1s"
    lock = rows.transaction()
    await lock.start()
    await rows.execute(f"LOCK TABLE {UNPARTITIONED}")
    validating = asyncio.create_task(Unpartitioned(limited)._validate(end))

    async def is_over_the_limit() -> bool:
        async with database.acquire() as connection:
            return validating.done() or await connection.fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%VALIDATE CONST%'"
                " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '1.1 s'"
            )

    await eventually(is_over_the_limit)
    await lock.rollback()
    assert await validating


async def test_privileges_to_read_events_are_kept(database_url: str, tmp_path: Path) -> None:
    connection = await connect_previous(database_url, tmp_path)
    role = f"reader_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role}; GRANT SELECT ON events TO {role}")
    await connection.execute("GRANT INSERT ON events TO PUBLIC")
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    for privilege, is_granted in (("SELECT", True), ("INSERT", True), ("DELETE", False)):
        query = "SELECT has_table_privilege($1, 'ingest.events', $2)"
        assert await connection.fetchval(query, role, privilege) is is_granted
    await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()
    await database.close()


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE VIEW dependent AS TABLE events"])
async def test_an_empty_table_is_kept_while_the_previous_version_may_run(
    database_url: str, tmp_path: Path, statement: str
) -> None:
    connection = await connect_previous(database_url, tmp_path)
    await connection.execute(statement)
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    await connection.copy_records_to_table(
        "events",
        columns=PREVIOUS_COLUMNS,
        records=[row_of_the_previous_version("concurrent", datetime.now(UTC))],
    )
    assert statuses(await store_of(database).save([incoming("concurrent")])) == [Status.KNOWN]
    await connection.close()
    await database.close()


async def test_a_new_database_has_no_unpartitioned_table_when_two_replicas_share_the_migrations(
    database_url: str, tmp_path: Path
) -> None:
    # Another replica of this version was killed after some of the migrations.
    for file in sorted(MIGRATIONS.glob("*.sql")):
        shutil.copy(file, tmp_path)
    (tmp_path / "0008_contacts_kept_apart.sql").write_text("-- migrate:up\nSELECT nothing;\n")
    with pytest.raises(MigrationFailed):
        await migrate(PostgresAddress.parse(database_url), "ingest", tmp_path)
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    async with database.acquire() as connection:
        assert await list_partitions(connection) == []
    assert await Unpartitioned(database).bound()
    await database.close()


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
async def test_the_table_gets_bounds_through_a_pooler(
    database: Database, database_url: str, rows: Any, tmp_path: Path
) -> None:
    async with pgbouncer(database_url, "transaction", tmp_path) as url:
        pooled = Database(url, "ingest", MIGRATIONS, pool_size=2)
        await pooled.connect()
        assert await EventTable(pooled).maintain()
        await pooled.close()
    first, *_ = await list_partitions(rows)
    assert first.ends < LATEST
