"""Connections that break in somebody's hands, and servers that change behind them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
import structlog
from asyncpg.pool import PoolConnectionHolder

from hogsend.contract.errors import Unavailable
from hogsend.service import postgres_server
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from tests.waiting import PATIENCE_SECONDS, eventually


@asynccontextmanager
async def kept(database_url: str) -> AsyncIterator[Database]:
    """A service's database of one connection, which is connected."""
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    keeping = asyncio.create_task(database.keep_connected())
    try:
        await eventually(lambda: is_up(database))
        yield database
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await database.close()


async def is_up(database: Database) -> bool:
    dependency, schema = await database.health()
    return dependency.status == "up" and schema.applied == schema.required


async def backend(database: Database, error: Exception | None = None) -> int:
    """Process that serves the connection; raises `error` while it is held."""
    async with database.acquire() as connection:
        found = await connection.fetchval("SELECT pg_backend_pid()")
        if error is not None:
            raise error
    return int(found)


async def execute(database: Database, *statements: str) -> None:
    async with database.acquire() as connection:
        for statement in statements:
            await connection.execute(statement)


@pytest.mark.parametrize(
    "error",
    [
        # What asyncpg says of a connection that was cut while a query was cancelled.
        asyncpg.InternalClientError("cannot switch to state 11"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed"),
        TimeoutError(),
        ConnectionResetError(),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.PostgresIOError("could not read block 0"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InvalidCatalogNameError("database does not exist"),
        asyncpg.InsufficientPrivilegeError("permission denied for table events"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_broken_connection_is_unavailable_and_the_next_one_works(
    database_url: str, error: Exception
) -> None:
    async with kept(database_url) as database:
        before = await backend(database)
        with pytest.raises(Unavailable):
            await backend(database, error)
        after = await backend(database)
        if isinstance(error, asyncpg.InternalClientError):
            assert after != before


async def test_a_connection_that_cannot_be_given_back_after_a_cancellation_is_no_complaint(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    returning, is_cancelled = asyncio.Event(), asyncio.Event()
    give_back = PoolConnectionHolder.release

    async def fail(holder: PoolConnectionHolder[Any], timeout: float | None) -> None:
        returning.set()
        await is_cancelled.wait()
        await give_back(holder, timeout)
        raise TimeoutError

    async with kept(database_url) as database:
        with monkeypatch.context() as patched:
            patched.setattr(PoolConnectionHolder, "release", fail)
            using = asyncio.create_task(backend(database))
            await returning.wait()
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using
        is_cancelled.set()
        # There is one connection: it is back.
        await backend(database)
        gc.collect()
        assert complaints == []


async def test_what_a_statement_itself_is_to_blame_for_is_not_unavailable(
    database_url: str,
) -> None:
    async with kept(database_url) as database:
        for statement, error in (
            ("SELECT 1 / 0", asyncpg.DivisionByZeroError),
            ("SELECT nothing_like_it", asyncpg.UndefinedColumnError),
        ):
            with pytest.raises(error):
                await execute(database, statement)


async def test_a_server_that_became_a_standby_is_left_for_another(database_url: str) -> None:
    async with kept(database_url) as database:
        before = await backend(database)
        with pytest.raises(Unavailable):
            await execute(database, "SET default_transaction_read_only = on", "DELETE FROM events")
        assert await backend(database) != before


async def test_tables_that_are_gone_are_made_again(database_url: str) -> None:
    async with kept(database_url) as database:
        admin = await asyncpg.connect(database_url)
        try:
            await admin.execute("DROP SCHEMA ingest CASCADE")
        finally:
            await admin.close()
        with pytest.raises(Unavailable):
            await execute(database, "DELETE FROM events")
        await eventually(lambda: is_up(database))
        async with database.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM events") == 0


@pytest.fixture
async def stricter(database_url: str) -> AsyncIterator[None]:
    """An operator wants each transaction to see what there was at its start."""
    operator = await asyncpg.connect(database_url)
    name = await operator.fetchval("SELECT current_database()")
    setting = "default_transaction_isolation"
    await operator.execute(f"ALTER DATABASE {name} SET {setting} = 'repeatable read'")
    yield
    await operator.execute(f"ALTER DATABASE {name} RESET {setting}")
    await operator.close()


async def test_replicas_see_what_the_one_before_them_wrote_whatever_the_databases_default(
    database_url: str, stricter: None
) -> None:
    replicas = [Database(database_url, "ingest", MIGRATIONS, pool_size=2) for _ in range(3)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(replica.connect() for replica in replicas))
    async with replicas[0].acquire() as connection, connection.transaction():
        assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
    async with replicas[0].acquire(snapshot=True) as connection:
        assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
    for replica in replicas:
        await replica.close()


async def test_a_process_that_stands_still_in_a_transaction_keeps_its_locks_only_for_a_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "STANDSTILL_SECONDS", 0.2)
    async with kept(database_url) as frozen, kept(database_url) as other:
        await locked_by_one_that_stands_still(frozen, other)


async def locked_by_one_that_stands_still(frozen: Database, other: Database) -> None:
    """Have `frozen` do nothing more in a transaction, and `other` get the lock all the same."""
    lock = "SELECT pg_advisory_xact_lock(1)"
    locked = []

    async def stand_still() -> None:
        async with frozen.acquire() as connection, connection.transaction():
            await connection.execute(lock)
            async with other.acquire() as next, next.transaction():
                await next.execute(lock)
                locked.append(other)
            # Its transaction is over, and with it what it had written.
            await connection.execute("SELECT 1")

    with pytest.raises(Unavailable):
        await stand_still()
    assert locked == [other]


async def test_a_privilege_that_was_taken_away_is_told_of_once_and_costs_no_more(
    database_url: str,
) -> None:
    refused = asyncpg.InsufficientPrivilegeError("permission denied for table events")
    async with kept(database_url) as database:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await backend(database, refused)
    (said,) = (line for line in logs if line["log_level"] == "warning")
    assert said["reason"] == "permission denied for table events"
