"""The provisioning lock over all replicas, and which destinations this instance provisioned."""

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
"""Longest wait for the lock; shorter than a run may take, so that the answer names the cause."""
IDLE_SECONDS = 55.0
"""PostgreSQL takes the lock from a process that sent it no statement for this long."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class ProvisioningLock:
    """The right to change destinations, held by one run at a time.

    What is recorded under it is committed when the run ends without an error.
    """

    def __init__(self, held: HeldLock) -> None:
        self._held = held

    async def confirm(self) -> None:
        """Check that the lock is still held; call this before each change in PostHog.

        Raises:
            Unavailable: PostgreSQL has taken the lock, for example after `IDLE_SECONDS`.
        """
        await self._held.confirm()

    async def provisioned(self, project: str) -> dict[str, str]:
        """Return the URLs given to a project's destinations, by destination id."""
        return await _provisioned(self._held.connection, project)

    async def remember(self, project: str, hog_function: str, webhook_url: str) -> None:
        """Record which URL a destination was given."""
        await _queries.remember(
            self._held.connection,
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
        """Hold the provisioning lock, which one run over all replicas can hold.

        Raises:
            Busy: another run held it for `WAIT_SECONDS`.
        """
        async with exclusive(
            self._database,
            LOCK,
            scope=LockScope.TRANSACTION,
            wait_seconds=WAIT_SECONDS,
            idle_seconds=IDLE_SECONDS,
            busy="another provisioning run has not ended; try again",
            lost="this run lost its lock; try again",
        ) as held:
            yield ProvisioningLock(held)

    async def provisioned(self, project: str) -> dict[str, str]:
        """Return the URLs given to a project's destinations, read without the lock."""
        async with self._database.acquire() as connection:
            return await _provisioned(connection, project)


async def _provisioned(connection: Any, project: str) -> dict[str, str]:
    found = _queries.provisioned(connection, project=project)
    return {row["hog_function_id"]: row["webhook_url"] async for row in found}
