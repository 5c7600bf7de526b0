"""Knows the durables of ENGAGEMENT besides ingest's own, also those that are missing now.

Analytics has a durable for buckets and one for each destination. If an operator deletes one while
no replica of analytics runs, the next replica creates it again, and must find the reports from
meanwhile. So ingest remembers every durable it has seen, and asks analytics which of the missing
ones it still uses.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import aiosql

from hogsend.contract.base import Empty
from hogsend.contract.destinations import ANALYTICS_ENGAGEMENT_READERS
from hogsend.service.database import Database
from hogsend.transport.connection import Connection

_queries: Any = aiosql.from_path(Path(__file__).with_name("engagement_readers.sql"), "asyncpg")


class KnownReaders:
    """The durables that ingest has seen. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, link: Connection, database: Database) -> None:
        """Store the durables in `database`; ask analytics over `link`."""
        self._link = link
        self._database = database

    async def missing(self, present: Collection[str]) -> set[str]:
        """Return the durables that do not exist now, but that analytics will create again.

        Args:
            present: names of the durables that exist.

        Raises:
            Unavailable: also if a durable is missing and analytics is unavailable.
        """
        async with self._database.transaction() as connection:
            seen = {row["durable"] async for row in _queries.readers(connection)}
            if new := sorted(set(present) - seen):
                await _queries.remember(connection, durables=new)
        missing = seen - set(present)
        if not missing:
            return set()
        used = set((await self._link.request(ANALYTICS_ENGAGEMENT_READERS, Empty())).durables)
        if unused := sorted(missing - used):
            async with self._database.transaction() as connection:
                await _queries.forget(connection, durables=unused)
        return missing & used
