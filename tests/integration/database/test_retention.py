"""Retention: old rows are deleted in small transactions that block no other statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo

import asyncpg
import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import Unavailable
from hogsend.service import metrics, retention
from hogsend.service.database import Database
from hogsend.service.retention import Retention
from services.analytics import app as analytics
from services.ingest import app as ingest

ROWS = """
INSERT INTO retained (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', n, 'e', 'u', '00000000-0000-0000-0000-000000000000',
    jsonb_build_object('text', repeat('x', 500)), now() - interval '9 years',
    now() - n % 4 * interval '10 days'
FROM generate_series(1, $1::int) AS n
"""

AGO = "SELECT now() - interval '15 days'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", ingest.MIGRATIONS, pool_size=3)
    await database.connect()
    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE retained (LIKE events INCLUDING DEFAULTS)")
    yield database
    await database.close()


def retention_of(database: Database, days: int) -> Retention:
    return Retention(database, "retained", column="received_at", days=days)


def clock_ahead(*, days: int) -> type[datetime]:
    """Return a `datetime` class for a replica whose clock is ahead."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=days)

    return Ahead


async def ages(database: Database) -> list[int]:
    """Return the distinct ages of the rows, in days since receipt."""
    async with database.acquire() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT extract(day FROM now() - received_at)::int AS age FROM retained"
        )
    return sorted(row["age"] for row in rows)


async def test_rows_are_deleted_by_the_time_of_receipt_and_not_of_occurrence(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BLOCKS", 8)
    async with database.acquire() as connection:
        await connection.execute(ROWS, 2000)
    before = metrics.RETENTION_DELETED.labels("retained")._value.get()
    with capture_logs() as logs:
        assert await retention_of(database, 15).sweep() == 1000
    assert await ages(database) == [0, 10]
    assert metrics.RETENTION_DELETED.labels("retained")._value.get() == before + 1000
    (line,) = [line for line in logs if line["event"] == "old rows deleted"]
    assert (line["table"], line["rows"], line["days"]) == ("retained", 1000, 15)
    assert await retention_of(database, 15).sweep() == 0


async def test_a_replica_whose_clock_is_ahead_deletes_no_row_too_early(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.acquire() as connection:
        await connection.execute(ROWS, 2000)
    monkeypatch.setattr(retention, "datetime", clock_ahead(days=400))
    assert await retention_of(database, 15).sweep() == 1000
    assert await ages(database) == [0, 10]


async def test_inserts_and_updates_of_recent_rows_do_not_wait_for_a_sweep(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BLOCKS", 1)
    async with database.acquire() as connection:
        await connection.execute(ROWS, 200)
    sweeper = retention_of(database, 15)
    other = await asyncpg.connect(
        database_url, server_settings={"search_path": "ingest", "lock_timeout": "1s"}
    )
    async with database.acquire() as connection, connection.transaction():
        # A step of a sweep that has not committed yet.
        await connection.execute(sweeper._statement, (0, 0), (1, 0), await other.fetchval(AGO))
        await other.execute(ROWS.replace("'posthog'", "'new'"), 10)
        await other.execute(
            "UPDATE retained SET user_id = 'v' WHERE received_at > now() - interval '1 day'"
        )
    await other.close()


async def test_only_one_replica_sweeps_a_table_at_a_time(database: Database) -> None:
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(ROWS, 8)
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('retention'), hashtext('retained'))"
        )
        assert await retention_of(database, 15).sweep() == 0
    assert await retention_of(database, 15).sweep() == 4


async def test_a_sweep_reads_blocks_by_tuple_id(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(ROWS, 2000)
        await connection.execute("ANALYZE retained")
        plan = await connection.fetch(
            f"EXPLAIN {retention_of(database, 15)._statement}",
            *((8, 0), (16, 0), await connection.fetchval(AGO)),
        )
    assert "Tid Range Scan" in str(plan)


async def test_a_sweep_deletes_no_rows_by_default_and_raises_without_postgresql(
    database: Database, database_url: str
) -> None:
    async with database.acquire() as connection:
        await connection.execute(ROWS, 8)
    await retention_of(database, 0).sweep_periodically()
    assert await ages(database) == [0, 10, 20, 30]
    unconnected = Database(database_url, "ingest", ingest.MIGRATIONS, pool_size=1)
    with pytest.raises(Unavailable):
        await retention_of(unconnected, 15).sweep()


async def test_a_missing_table_is_skipped(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute("DROP TABLE retained")
    assert await retention_of(database, 15).sweep() == 0
    # The table may also be dropped while a sweep runs.
    assert (
        await retention_of(database, 15)._delete(0, 1, datetime.now(UTC))
        == retention._OTHER_REPLICA
    )
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_old_audit_entries_and_deliveries_are_deleted(
    database: Database, database_url: str
) -> None:
    async with database.acquire() as connection:
        await connection.execute(
            "INSERT INTO audit SELECT gen_random_uuid(), now() - days * interval '1 day', "
            "'a', 'b', 'c', 200, 'r', '' FROM generate_series(0, 9) AS days"
        )
    assert await Retention(database, "audit", column="at", days=5).sweep() == 5
    other = Database(database_url, "analytics", analytics.MIGRATIONS, pool_size=1)
    await other.connect()
    async with other.acquire() as connection:
        await connection.execute(
            "INSERT INTO destinations (id, url, kind, event_types, config) "
            "VALUES (gen_random_uuid(), 'u', 'posthog', '{}', '{}')"
        )
        await connection.execute(
            "INSERT INTO deliveries (destination_id, event_id, event_type, status, attempts, "
            "finished_at) SELECT id, days, 'e', 'delivered', 1, now() - days * interval '1 day' "
            "FROM destinations, generate_series(0, 9) AS days"
        )
    assert await Retention(other, "deliveries", column="finished_at", days=5).sweep() == 5
    await other.close()
