"""Exclusive sections over all replicas of a service, by PostgreSQL's advisory locks.

A process that dies loses its lock with its connection. One that freezes loses it once PostgreSQL
has heard nothing on that connection for the idle time-out.

Behind a pooler a lock of a session would stay with a server that is lent to another client. There a
transaction that does nothing else holds the lock, and the section works on another connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import TypeAlias

import asyncpg
import msgspec

from hogsend.contract.errors import Unavailable
from hogsend.service.database import AWAY, BROKEN, Database

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Busy(Unavailable):
    """Another section with the same key did not end within the wait: nothing has failed."""


class LockKey(msgspec.Struct, frozen=True):
    """What an advisory lock is about.

    Replicas of two versions run side by side during an upgrade: a lock's key must stay what it is.
    """

    sql: str
    """One bigint or two integers, as an expression over `$1`, `$2`."""
    arguments: tuple[str | int, ...]

    @classmethod
    def of_number(cls, number: int) -> LockKey:
        """Use a number as it is."""
        return cls("$1::bigint", (number,))

    @classmethod
    def of_name(cls, name: str) -> LockKey:
        """Use the 64-bit hash of a name."""
        return cls("hashtextextended($1, 0)", (name,))

    @classmethod
    def of_pair(cls, section: str, item: str) -> LockKey:
        """Use the 32-bit hashes of a section's name and of the item it is about."""
        return cls("hashtext($1), hashtext($2)", (section, item))


class LockScope(StrEnum):
    """What ends with the lock."""

    SESSION = "session"
    """Nothing: each use of `HeldLock.statements` commits by itself."""
    TRANSACTION = "transaction"
    """The section is one transaction; it is rolled back when the lock is lost."""


class HeldLock:
    """A lock while it is held, and the connection that holds it."""

    def __init__(self, connection: Connection, lost: str, elsewhere: Database | None) -> None:
        """Hold the lock on `connection`; say `lost` when it has been taken.

        Statements run on the same connection, or on one that `elsewhere` lends.
        """
        self.connection = connection
        self._lost = lost
        self._elsewhere = elsewhere
        self.loss: Unavailable | None = None

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Connection]:
        """A connection for statements of the section.

        Raises:
            Unavailable: PostgreSQL took the lock, or is gone itself.
        """
        if self._elsewhere is None:
            yield self.connection
            return
        # What holds the lock cannot refuse a statement that runs elsewhere.
        await self.confirm()
        async with self._elsewhere.acquire() as connection:
            yield connection

    async def confirm(self) -> None:
        """Make sure that the lock is still held, and start its idle time-out anew.

        Call it before an effect outside of PostgreSQL that must not happen twice.

        Raises:
            Unavailable: PostgreSQL took the lock, or is gone itself.
        """
        try:
            await self.connection.execute("SELECT 1")
        except (*AWAY, *BROKEN, asyncpg.PostgresError) as error:
            if isinstance(error, BROKEN):
                # The server closed the connection, and asyncpg has not noticed yet.
                self.connection.terminate()
            self.loss = Unavailable(self._lost)
            raise self.loss from error


@asynccontextmanager
async def exclusive(
    database: Database,
    key: LockKey,
    *,
    scope: LockScope,
    wait_seconds: float,
    idle_seconds: float,
    busy: str,
    lost: str = "the lock was lost because this process did nothing for too long; try again",
) -> AsyncIterator[HeldLock]:
    """Run the block while no other replica runs one with the same key.

    Args:
        database: lends a connection, which is taken up for as long as the block runs.
        key: what the lock is about.
        scope: whether the block is one transaction.
        wait_seconds: longest wait for the lock; 0 asks once and does not wait.
        idle_seconds: PostgreSQL takes the lock when the connection has been idle for so long.
        busy: message of the error when the wait is over.
        lost: message of the error that `confirm` raises.

    Raises:
        Busy: the wait is over.
        Unavailable: PostgreSQL is not available.
    """
    lock: HeldLock | None = None
    try:
        async with AsyncExitStack() as section:
            connection = await section.enter_async_context(database.acquire())
            elsewhere = database if database.pooled and scope is LockScope.SESSION else None
            if elsewhere is not None:
                scope = LockScope.TRANSACTION
            if scope is LockScope.SESSION:
                section.push_async_callback(_reset, connection)
            if scope is LockScope.TRANSACTION and elsewhere is None:
                await section.enter_async_context(connection.transaction())
            await _set_idle_timeout(connection, scope, idle_seconds)
            await _lock(connection, key, scope, wait_seconds, busy)
            lock = HeldLock(connection, lost, elsewhere)
            yield lock
    except Unavailable:
        # A transaction that cannot even be rolled back hides what `confirm` said.
        if lock is not None and lock.loss is not None:
            raise lock.loss from lock.loss.__cause__
        raise


async def _set_idle_timeout(connection: Connection, scope: LockScope, seconds: float) -> None:
    # Either setting is undone: by the end of the transaction, or by `_reset`.
    in_transaction = scope is LockScope.TRANSACTION
    setting = "idle_in_transaction_session_timeout" if in_transaction else "idle_session_timeout"
    milliseconds = str(round(seconds * 1000))
    await connection.execute("SELECT set_config($1, $2, $3)", setting, milliseconds, in_transaction)


async def _reset(connection: Connection) -> None:
    """Take a session's settings and locks from it, also one granted just when its wait was over."""
    if connection.is_closed():
        return
    try:
        await connection.reset()
    except BaseException:
        # The pool must not lend it again; PostgreSQL undoes all of it with the connection.
        connection.terminate()
        raise


async def _lock(
    connection: Connection, key: LockKey, scope: LockScope, wait_seconds: float, busy: str
) -> None:
    suffix = "_xact_lock" if scope is LockScope.TRANSACTION else "_lock"
    if wait_seconds == 0:
        if not await connection.fetchval(
            f"SELECT pg_try_advisory{suffix}({key.sql})", *key.arguments
        ):
            raise Busy(busy)
        return
    try:
        # A lock that is granted just when the wait is over is given back by `_reset`.
        await connection.execute(
            f"SELECT pg_advisory{suffix}({key.sql})", *key.arguments, timeout=wait_seconds
        )
    except TimeoutError as error:
        raise Busy(busy) from error
