"""The one refresh of a provider's grant at a time, over all replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive
from hogsend.service.postgres_errors import CONNECTION_BROKEN
from services.credentials.stored import SealedRow, Snapshot, queries, snapshot

LOCK_WAIT_SECONDS = 12.0
"""Longest wait for another replica's refresh, which may take 10 s."""
LOCK_IDLE_SECONDS = 15.0
"""PostgreSQL takes the refresh lock from a replica that does nothing for this long."""


class RefreshLock:
    """What one refresh may do while no other replica refreshes the same provider.

    Every step commits by itself, so that the refreshed grant is safe before anything else happens.
    """

    def __init__(self, lock: HeldLock, provider: str) -> None:
        """Work under the lock."""
        self._lock = lock
        self._provider = provider

    async def load(self) -> Snapshot:
        """Read what is stored now: another replica may just have refreshed."""
        async with self._lock.statements() as connection:
            return await snapshot(connection, self._provider)

    async def start(self, replaced: SealedRow, now: datetime) -> None:
        """Record that the token endpoint is about to be asked."""
        async with self._lock.statements() as connection:
            await queries.start_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                started_at=now,
            )

    async def save(self, replaced: SealedRow, payload: str) -> int | None:
        """Store the refreshed grant and return its version.

        None when `replaced` was replaced or deleted meanwhile; nothing is stored then.

        Raises:
            Unavailable: PostgreSQL did not take it, for whatever reason.
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

    async def fail(
        self,
        replaced: SealedRow,
        now: datetime,
        reason: str,
        *,
        needs_reconnect: bool,
        lost: bool = False,
    ) -> int:
        """Record a failure; returns the number of failures in a row, 0 for a replaced grant.

        Args:
            replaced: the grant that was to be refreshed.
            now: when it failed.
            reason: what an operator is told.
            needs_reconnect: whether only connecting again helps.
            lost: whether the answer was lost, so that the grant may have been refreshed.
        """
        async with self._lock.statements() as connection:
            failures: int | None = await queries.fail_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                failed_at=now,
                reason=reason,
                needs_reconnect=needs_reconnect,
                lost=lost,
            )
        return failures or 0


@asynccontextmanager
async def held(database: Database, provider: str) -> AsyncIterator[RefreshLock]:
    """Hold a provider's refresh lock; see `CredentialStore.refresh_lock`."""
    async with exclusive(
        database,
        LockKey.of_pair("hogsend.credentials.refresh", provider),
        scope=LockScope.SESSION,
        wait_seconds=LOCK_WAIT_SECONDS,
        idle_seconds=LOCK_IDLE_SECONDS,
        busy="another replica's refresh does not end",
    ) as lock:
        yield RefreshLock(lock, provider)
