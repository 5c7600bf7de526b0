"""The provisioning lock over all replicas, and the record of provisioned destinations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosql

from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive

LOCK = LockKey.of_name("hogsend.provisioner")
WAIT_SECONDS = 40.0
"""Longest wait for the lock. Shorter than the time limit of a run, so that the error names the lock
as the cause."""
IDLE_SECONDS = 55.0
"""PostgreSQL releases the lock of a process that sent no statement for this long."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class ProvisioningLock:
    """The lock that allows one run at a time to change destinations.

    Records made under the lock are committed when the run ends without an error.
    """

    def __init__(self, lock: HeldLock) -> None:
        self._lock = lock

    async def confirm(self) -> None:
        """Check that the lock is still held; call this before each change in PostHog.

        Raises:
            Unavailable: PostgreSQL has released the lock, for example after `IDLE_SECONDS`.
        """
        await self._lock.confirm()

    async def provisioned(self, project: str) -> dict[str, str]:
        """Return the URLs that this instance set on a project's destinations, by destination id."""
        return await _provisioned(self._lock.connection, project)

    async def record(self, project: str, hog_function: str, webhook_url: str) -> None:
        """Record the URL that this instance set on a destination."""
        await _queries.record(
            self._lock.connection,
            project=project,
            hog_function=hog_function,
            webhook_url=webhook_url,
        )


class DestinationStore:
    """The `provisioner` schema. Every method raises `Unavailable` while PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[ProvisioningLock]:
        """Hold the provisioning lock, which one run over all replicas can hold, in a block.

        Raises:
            Busy: another run held the lock for `WAIT_SECONDS`.
        """
        async with exclusive(
            self._database,
            LOCK,
            scope=LockScope.TRANSACTION,
            wait_seconds=WAIT_SECONDS,
            idle_seconds=IDLE_SECONDS,
            busy="another provisioning run has not ended; try again",
            lost="this run lost its lock; try again",
        ) as lock:
            yield ProvisioningLock(lock)

    async def provisioned(self, project: str) -> dict[str, str]:
        """Read the URLs of `ProvisioningLock.provisioned` without the lock."""
        async with self._database.acquire() as connection:
            return await _provisioned(connection, project)


async def _provisioned(connection: Any, project: str) -> dict[str, str]:
    rows = _queries.provisioned(connection, project=project)
    return {row["hog_function_id"]: row["webhook_url"] async for row in rows}
