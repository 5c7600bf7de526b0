"""Exclusive sections across all replicas of a service, with PostgreSQL's advisory locks.

A process that dies loses its lock with its connection. A process that freezes loses the lock when
its connection has been idle for the idle timeout.

Behind a pooler, a session-level lock would stay with a server connection that other clients get
next. There a transaction that does nothing else holds the lock, and the statements of the section
run on a second connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import TypeAlias

import asyncpg
import msgspec

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.postgres_errors import CONNECTION_BROKEN, UNAVAILABLE
from hogsend.service.postgres_server import IDLE_IN_TRANSACTION

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Busy(Unavailable):
    """The lock was not released within the wait: another replica is still in its section."""


class LockKey(msgspec.Struct, frozen=True):
    """The key of an advisory lock.

    The key of an existing lock must not change: during an upgrade replicas of two versions run side
    by side, and they exclude each other only when both use the same key.
    """

    sql: str
    """SQL expression over `$1`, `$2`: one bigint or two integers."""
    arguments: tuple[str | int, ...]

    @classmethod
    def of_number(cls, number: int) -> LockKey:
        """Return the key for a number, which is used unchanged."""
        return cls("$1::bigint", (number,))

    @classmethod
    def of_name(cls, name: str) -> LockKey:
        """Return the key for a name: its 64-bit hash."""
        return cls("hashtextextended($1, 0)", (name,))

    @classmethod
    def of_pair(cls, section: str, item: str) -> LockKey:
        """Return the key for one item of a section: the 32-bit hashes of both names."""
        return cls("hashtext($1), hashtext($2)", (section, item))


class LockScope(StrEnum):
    """Whether the section is a transaction."""

    SESSION = "session"
    """No: each statement commits by itself, and stays when the lock is lost later."""
    TRANSACTION = "transaction"
    """Yes: it is rolled back when the lock is lost."""


class HeldLock:
    """A lock while it is held, and the connection that holds it."""

    def __init__(
        self, connection: Connection, lost: str, statement_database: Database | None
    ) -> None:
        """Represent the lock that `connection` holds.

        Args:
            connection: holds the lock.
            lost: message of the error when PostgreSQL has released the lock.
            statement_database: lends the connections for statements; None runs them on
                `connection`.
        """
        self.connection = connection
        self._lost = lost
        self._statement_database = statement_database
        self.loss: Unavailable | None = None
        """The error that `confirm` raised, once the lock was found to be lost."""

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Connection]:
        """Return a connection for statements of the section.

        Raises:
            Unavailable: PostgreSQL released the lock, or is not available.
        """
        if self._statement_database is None:
            yield self.connection
            return
        # A statement on another connection would also run after the lock was lost.
        await self.confirm()
        async with self._statement_database.acquire() as connection:
            yield connection

    async def confirm(self) -> None:
        """Check that the lock is still held, and restart its idle timeout.

        Call it before a side effect outside of PostgreSQL that must not happen twice.

        Raises:
            Unavailable: PostgreSQL released the lock, or is not available.
        """
        try:
            await self.connection.execute("SELECT 1")
        except (*UNAVAILABLE, *CONNECTION_BROKEN, asyncpg.PostgresError) as error:
            if isinstance(error, CONNECTION_BROKEN):
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
        database: lends a connection, which the block occupies until it ends.
        key: of the lock.
        scope: whether the block is one transaction.
        wait_seconds: longest wait for the lock; 0 tries once and does not wait.
        idle_seconds: PostgreSQL releases the lock when the connection was idle for this long.
        busy: message of `Busy`.
        lost: message of the error that `confirm` raises when the lock was lost.

    Raises:
        Busy: the lock was not released within `wait_seconds`.
        Unavailable: PostgreSQL is not available, or the lock was lost.
    """
    lock: HeldLock | None = None
    try:
        async with AsyncExitStack() as section:
            connection = await section.enter_async_context(database.acquire())
            statement_database = None
            if database.is_behind_pooler and scope is LockScope.SESSION:
                # `acquire` has started the transaction that holds the lock.
                statement_database, scope = database, LockScope.TRANSACTION
            elif scope is LockScope.TRANSACTION:
                await section.enter_async_context(connection.transaction())
            else:
                section.push_async_callback(_reset, connection)
            await _set_idle_timeout(connection, scope, idle_seconds)
            await _lock(connection, key, scope, wait_seconds, busy)
            lock = HeldLock(connection, lost, statement_database)
            yield lock
    except Unavailable:
        # When the rollback fails too, its error hides the one that `confirm` raised.
        if lock is not None and lock.loss is not None:
            raise lock.loss from lock.loss.__cause__
        raise


async def _set_idle_timeout(connection: Connection, scope: LockScope, seconds: float) -> None:
    # The end of the transaction, or `_reset`, restores the setting.
    in_transaction = scope is LockScope.TRANSACTION
    setting = IDLE_IN_TRANSACTION if in_transaction else "idle_session_timeout"
    milliseconds = str(round(seconds * 1000))
    await connection.execute("SELECT set_config($1, $2, $3)", setting, milliseconds, in_transaction)


async def _reset(connection: Connection) -> None:
    """Release a session's locks and restore its settings.

    This includes a lock that PostgreSQL granted at the moment when the wait for it timed out.
    """
    if connection.is_closed():
        return
    try:
        await connection.reset()
    except BaseException:
        # The pool must not lend it again. PostgreSQL releases the locks with the connection.
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
        # A lock that is granted at the moment of the timeout is released by `_reset`.
        await connection.execute(
            f"SELECT pg_advisory{suffix}({key.sql})", *key.arguments, timeout=wait_seconds
        )
    except TimeoutError as error:
        raise Busy(busy) from error
