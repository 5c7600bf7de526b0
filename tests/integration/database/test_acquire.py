"""Acquired connections: which errors mean that PostgreSQL is unavailable, and what follows."""

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
from hogsend.service.health import check_database
from services.ingest.app import MIGRATIONS
from tests.waiting import PATIENCE_SECONDS, eventually


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[Database]:
    """Run `keep_connected` of a database with a pool of one connection."""
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
    dependency, schema = await check_database(database)
    return dependency.status == "up" and schema.applied == schema.required


async def backend(database: Database, error: Exception | None = None) -> int:
    """Return the server process of the connection; raise `error` while it is borrowed."""
    async with database.acquire() as connection:
        process = await connection.fetchval("SELECT pg_backend_pid()")
        if error is not None:
            raise error
    return int(process)


async def execute(database: Database, *statements: str) -> None:
    async with database.acquire() as connection:
        for statement in statements:
            await connection.execute(statement)


@pytest.mark.parametrize(
    "error",
    [
        # asyncpg raises this for a connection that was cut while a query was cancelled.
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
async def test_an_error_of_the_server_or_connection_raises_unavailable_and_the_next_query_works(
    database_url: str, error: Exception
) -> None:
    async with connected(database_url) as database:
        before = await backend(database)
        with pytest.raises(Unavailable):
            await backend(database, error)
        after = await backend(database)
        if isinstance(error, asyncpg.InternalClientError):
            assert after != before


async def test_a_failed_return_after_a_cancellation_is_not_reported_as_unhandled(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, error: unhandled.append(error))
    release_started, is_cancelled = asyncio.Event(), asyncio.Event()
    release = PoolConnectionHolder.release

    async def fail(holder: PoolConnectionHolder[Any], timeout: float | None) -> None:
        release_started.set()
        await is_cancelled.wait()
        await release(holder, timeout)
        raise TimeoutError

    async with connected(database_url) as database:
        with monkeypatch.context() as patched:
            patched.setattr(PoolConnectionHolder, "release", fail)
            query = asyncio.create_task(backend(database))
            await release_started.wait()
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
        is_cancelled.set()
        # The pool has one connection, which must have been returned.
        await backend(database)
        gc.collect()
        assert unhandled == []


async def test_an_error_in_the_statement_itself_is_raised_unchanged(
    database_url: str,
) -> None:
    async with connected(database_url) as database:
        for statement, error in (
            ("SELECT 1 / 0", asyncpg.DivisionByZeroError),
            ("SELECT no_such_column", asyncpg.UndefinedColumnError),
        ):
            with pytest.raises(error):
                await execute(database, statement)


async def test_a_connection_to_a_server_that_became_a_standby_is_closed(database_url: str) -> None:
    async with connected(database_url) as database:
        before = await backend(database)
        with pytest.raises(Unavailable):
            await execute(database, "SET default_transaction_read_only = on", "DELETE FROM events")
        assert await backend(database) != before


async def test_deleted_tables_are_created_again(database_url: str) -> None:
    async with connected(database_url) as database:
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
async def repeatable_read(database_url: str) -> AsyncIterator[None]:
    """Make `repeatable read` the default isolation level of the database, as an operator may."""
    operator = await asyncpg.connect(database_url)
    name = await operator.fetchval("SELECT current_database()")
    setting = "default_transaction_isolation"
    await operator.execute(f"ALTER DATABASE {name} SET {setting} = 'repeatable read'")
    yield
    await operator.execute(f"ALTER DATABASE {name} RESET {setting}")
    await operator.close()


async def test_replicas_migrate_and_use_read_committed_whatever_the_default_of_the_database(
    database_url: str, repeatable_read: None
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


async def test_a_transaction_that_stays_idle_loses_its_locks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "IDLE_IN_TRANSACTION_SECONDS", 0.2)
    async with connected(database_url) as frozen, connected(database_url) as other:
        await lock_of_an_idle_transaction_is_released(frozen, other)


async def lock_of_an_idle_transaction_is_released(frozen: Database, other: Database) -> None:
    """Let `frozen` hold a lock in an idle transaction, and check that `other` gets the lock."""
    lock = "SELECT pg_advisory_xact_lock(1)"
    locked = []

    async def stay_idle() -> None:
        async with frozen.acquire() as connection, connection.transaction():
            await connection.execute(lock)
            async with other.acquire() as next, next.transaction():
                await next.execute(lock)
                locked.append(other)
            # PostgreSQL has ended the idle transaction.
            await connection.execute("SELECT 1")

    with pytest.raises(Unavailable):
        await stay_idle()
    assert locked == [other]


async def test_a_missing_privilege_is_logged_once(
    database_url: str,
) -> None:
    refused = asyncpg.InsufficientPrivilegeError("permission denied for table events")
    async with connected(database_url) as database:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await backend(database, refused)
    (warning,) = (line for line in logs if line["log_level"] == "warning")
    assert warning["reason"] == "permission denied for table events"
