"""Exclusive sections: one replica at a time, and a frozen replica loses its lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import asyncpg
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import Busy, HeldLock, LockKey, LockScope, exclusive
from hogsend.service.postgres_server import IDLE_IN_TRANSACTION_SECONDS
from services.analytics.app import MIGRATIONS
from tests.waiting import eventually

KEY = LockKey.of_name("hogsend.test")
SCOPES = pytest.mark.parametrize("scope", list(LockScope))
UNRELEASED_LOCKS = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "analytics", MIGRATIONS, pool_size=4)
    await database.connect()
    yield database
    await database.close()


def section(
    database: Database, scope: LockScope, **changes: Any
) -> AbstractAsyncContextManager[HeldLock]:
    options: dict[str, Any] = {
        "scope": scope,
        "wait_seconds": 10,
        "idle_seconds": 30,
        "busy": "another replica has the lock",
        "lost": "too late",
    }
    return exclusive(database, changes.pop("key", KEY), **{**options, **changes})


async def has_waiter(database: Database) -> bool:
    async with database.acquire() as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
        )


async def held_locks(database: Database) -> int:
    async with database.acquire() as connection:
        return int(await connection.fetchval(UNRELEASED_LOCKS))


@SCOPES
async def test_a_second_section_starts_when_the_first_one_has_ended(
    database: Database, scope: LockScope
) -> None:
    order: list[str] = []

    async def second() -> None:
        async with section(database, scope):
            order.append("second")

    async with section(database, scope):
        waiting = asyncio.create_task(second())
        await eventually(partial(has_waiter, database))
        order.append("first")
    await waiting
    assert order == ["first", "second"]
    assert await held_locks(database) == 0


@SCOPES
@pytest.mark.parametrize("wait_seconds", [0, 0.05])
async def test_a_section_raises_busy_when_the_lock_is_not_released_in_time(
    database: Database, scope: LockScope, wait_seconds: float
) -> None:
    async with section(database, scope):
        with pytest.raises(Busy, match="another replica has the lock"):
            async with section(database, scope, wait_seconds=wait_seconds):
                pytest.fail("two at a time")
        async with section(database, scope, key=LockKey.of_name("hogsend.other")):
            assert await held_locks(database) == 2
    assert await held_locks(database) == 0
    async with section(database, scope, wait_seconds=wait_seconds):
        assert await held_locks(database) == 1


@SCOPES
async def test_confirm_raises_in_a_process_that_was_frozen_and_lost_its_lock(
    database: Database, scope: LockScope
) -> None:
    effects: list[str] = []

    async def freeze() -> None:
        async with section(database, scope, idle_seconds=1) as lock:
            async with section(database, scope) as other:
                await other.confirm()
            await lock.confirm()
            effects.append("an effect of a process without its lock")

    with pytest.raises(Unavailable, match="too late"):
        await freeze()
    assert effects == []


@SCOPES
async def test_a_confirmed_lock_is_kept(database: Database, scope: LockScope) -> None:
    async with section(database, scope) as lock:
        for _ in range(3):
            await lock.confirm()
        with pytest.raises(Unavailable):
            async with section(database, scope, wait_seconds=0):
                pytest.fail("two at a time")


async def test_only_a_section_in_a_transaction_is_rolled_back_when_it_fails(
    database: Database,
) -> None:
    async def fail(scope: LockScope) -> None:
        async with section(database, scope) as lock:
            await lock.connection.execute(f"CREATE TABLE created_in_{scope} (done boolean)")
            raise RuntimeError

    for scope in LockScope:
        with pytest.raises(RuntimeError):
            await fail(scope)
    async with database.acquire() as connection:
        created = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE tablename ~ '^created_in'"
        )
    assert [row["tablename"] for row in created] == ["created_in_session"]


async def test_the_idle_timeout_of_a_connection_ends_with_the_lock(database_url: str) -> None:
    database = Database(database_url, "analytics", MIGRATIONS, pool_size=1)
    await database.connect()
    for scope in LockScope:
        async with section(database, scope, idle_seconds=7):
            pass
        async with database.acquire() as connection:
            assert await connection.fetchval("SHOW idle_session_timeout") == "0"
            timeout = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
            assert timeout == f"{IDLE_IN_TRANSACTION_SECONDS:.0f}s"
    await database.close()


@pytest.mark.parametrize(
    ("key", "older_lock"),
    [
        (
            LockKey.of_pair("hogsend.credentials.refresh", "posthog"),
            "pg_try_advisory_lock(hashtext('hogsend.credentials.refresh'), hashtext('posthog'))",
        ),
        (
            LockKey.of_name("hogsend.provisioner"),
            "pg_try_advisory_xact_lock(hashtextextended('hogsend.provisioner', 0))",
        ),
        (LockKey.of_number(7237), "pg_try_advisory_lock(7237)"),
    ],
    ids=["pair", "name", "number"],
)
async def test_a_lock_excludes_replicas_of_the_first_version(
    database: Database, database_url: str, key: LockKey, older_lock: str
) -> None:
    older = await asyncpg.connect(database_url)
    try:
        async with section(database, LockScope.SESSION, key=key):
            assert await older.fetchval(f"SELECT {older_lock}") is False
        assert await older.fetchval(f"SELECT {older_lock}") is True
    finally:
        await older.close()
