"""Turns and memory in PostgreSQL: one run at a time over all replicas, and what runs made."""

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
"""Longest wait for one's turn; shorter than a run may take, so that the answer says why."""
STANDSTILL_SECONDS = 55
"""A process that holds the turn and asks nothing of PostgreSQL for so long has lost it."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class Turn:
    """The right to change destinations, held by one run at a time."""

    def __init__(self, connection: Any) -> None:
        """Belong to an open transaction."""
        self._connection = connection

    async def confirm(self) -> None:
        """Make sure the turn is still ours; call it before anything is changed in PostHog.

        Raises:
            Unavailable: it was taken away, for example while this process stood still.
        """
        try:
            await _queries.confirm(self._connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Unavailable("this run lost its turn; try again") from error

    async def provisioned(self, project: str) -> dict[str, str]:
        """URLs given to a project's destinations, by destination."""
        found = _queries.provisioned(self._connection, project=project)
        return {row["hog_function_id"]: row["webhook_url"] async for row in found}

    async def remember(self, project: str, hog_function: str, webhook_url: str) -> None:
        """Keep which URL a destination was given."""
        await _queries.remember(
            self._connection, project=project, hog_function=hog_function, webhook_url=webhook_url
        )


class DestinationStore:
    """The `provisioner` schema. Every method raises `Unavailable` while it is away."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Hold the only turn there is, over all replicas.

        Raises:
            Unavailable: another run kept it for too long, or PostgreSQL is away.
        """
        async with self._database.acquire() as connection, connection.transaction():
            try:
                await connection.fetch(
                    _queries.lock_for.sql, str(STANDSTILL_SECONDS * 1000), timeout=WAIT_SECONDS
                )
            except TimeoutError as error:
                raise Unavailable("another provisioning run has not ended; try again") from error
            yield Turn(connection)

    async def provisioned(self, project: str) -> dict[str, str]:
        """URLs given to a project's destinations, by destination, for whoever only looks."""
        async with self._database.acquire() as connection:
            return await Turn(connection).provisioned(project)
