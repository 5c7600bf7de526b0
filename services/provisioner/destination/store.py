"""The provisioning lock over all replicas, and which destinations this instance provisioned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosql
import asyncpg

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database

WAIT_SECONDS = 40.0
"""Longest wait for the lock; shorter than a run may take, so that the answer names the cause."""
IDLE_SECONDS = 55
"""PostgreSQL takes the lock from a process that sent it no statement for this long."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class ProvisioningLock:
    """The right to change destinations, held by one run at a time in an open transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def confirm(self) -> None:
        """Check that the lock is still held; call this before each change in PostHog.

        Raises:
            Unavailable: PostgreSQL has ended the transaction, for example after `IDLE_SECONDS`.
        """
        try:
            await _queries.confirm(self._connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Unavailable("this run lost its lock; try again") from error

    async def provisioned(self, project: str) -> dict[str, str]:
        """Return the URLs given to a project's destinations, by destination id."""
        found = _queries.provisioned(self._connection, project=project)
        return {row["hog_function_id"]: row["webhook_url"] async for row in found}

    async def remember(self, project: str, hog_function: str, webhook_url: str) -> None:
        """Record which URL a destination was given."""
        await _queries.remember(
            self._connection, project=project, hog_function=hog_function, webhook_url=webhook_url
        )


class DestinationStore:
    """The `provisioner` schema. Every method raises `Unavailable` while PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[ProvisioningLock]:
        """Hold the provisioning lock, which one run over all replicas can hold.

        Raises:
            Unavailable: another run held it for `WAIT_SECONDS`, or PostgreSQL is down.
        """
        async with self._database.acquire() as connection, connection.transaction():
            try:
                await connection.fetch(
                    _queries.lock_for.sql, str(IDLE_SECONDS * 1000), timeout=WAIT_SECONDS
                )
            except TimeoutError as error:
                raise Unavailable("another provisioning run has not ended; try again") from error
            yield ProvisioningLock(connection)

    async def provisioned(self, project: str) -> dict[str, str]:
        """Return the URLs given to a project's destinations, read without the lock."""
        async with self._database.acquire() as connection:
            return await ProvisioningLock(connection).provisioned(project)
