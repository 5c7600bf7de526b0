"""The lock that allows one refresh of a provider's grant at a time, over all replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive
from hogsend.service.postgres_errors import CONNECTION_BROKEN
from services.credentials.records import SealedRow, Snapshot, queries, snapshot

LOCK_WAIT_SECONDS = 12.0
"""Longest wait for another replica's refresh, which may take 10 s."""
LOCK_IDLE_SECONDS = 15.0
"""PostgreSQL releases the lock of a replica whose connection was idle for this long."""


class RefreshLock:
    """The database operations of one refresh, under the refresh lock.

    Every operation commits by itself, so that a refreshed grant is durable before anything else
    happens.
    """

    def __init__(self, lock: HeldLock, provider: str) -> None:
        """Execute statements under `lock`."""
        self._lock = lock
        self._provider = provider

    async def load(self) -> Snapshot:
        """Read what is stored: another replica may just have refreshed."""
        async with self._lock.statements() as connection:
            return await snapshot(connection, self._provider)

    async def record_start(self, replaced: SealedRow, now: datetime) -> None:
        """Record that a refresh request is about to be sent."""
        async with self._lock.statements() as connection:
            await queries.start_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                started_at=now,
            )

    async def save(self, replaced: SealedRow, payload: str) -> int | None:
        """Store the refreshed grant and return its version.

        None when `replaced` was replaced or deleted meanwhile; then nothing is stored.

        Raises:
            Unavailable: PostgreSQL could not store the grant, for any reason.
        """
        try:
            async with self._lock.statements() as connection:
                version: int | None = await queries.replace_grant(
                    connection,
                    provider=self._provider,
                    replaced=replaced.updated_at,
                    payload=payload,
                )
        except CONNECTION_BROKEN:
            # `Database.acquire` discards the connection.
            raise
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL refuses the grant: {type(error).__name__}") from error
        return version

    async def record_failure(
        self,
        replaced: SealedRow,
        now: datetime,
        reason: str,
        *,
        needs_reconnect: bool,
        response_lost: bool = False,
    ) -> int:
        """Record a failure, and return the number of consecutive failures; 0 for a replaced grant.

        Args:
            replaced: the grant that was to be refreshed.
            now: when the refresh failed.
            reason: the reason that operators see.
            needs_reconnect: whether only connecting again helps.
            response_lost: whether PostHog may have refreshed the grant although no usable response
                arrived.
        """
        async with self._lock.statements() as connection:
            failures: int | None = await queries.fail_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                failed_at=now,
                reason=reason,
                needs_reconnect=needs_reconnect,
                response_lost=response_lost,
            )
        return failures or 0


@asynccontextmanager
async def acquire_refresh_lock(database: Database, provider: str) -> AsyncIterator[RefreshLock]:
    """Hold a provider's refresh lock in the block; see `CredentialStore.refresh_lock`."""
    async with exclusive(
        database,
        LockKey.of_pair("hogsend.credentials.refresh", provider),
        scope=LockScope.SESSION,
        wait_seconds=LOCK_WAIT_SECONDS,
        idle_seconds=LOCK_IDLE_SECONDS,
        busy="another replica's refresh does not end",
    ) as lock:
        yield RefreshLock(lock, provider)
