"""Who reads ENGAGEMENT beside ingest, be its consumer there or not.

Analytics has a durable for buckets and one for each destination. One that is deleted by hand while
no replica of analytics runs is made again when one starts, and must find what was reported
meanwhile. So ingest remembers what it has seen, and asks analytics about what is missing.
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
    """Known readers. Every method raises `Unavailable` while PostgreSQL cannot be used."""

    def __init__(self, link: Connection, database: Database) -> None:
        """Ask over `link`, remember in `database`."""
        self._link = link
        self._database = database

    async def missing(self, present: Collection[str]) -> set[str]:
        """Readers without a consumer, which will be back; empty when each has one.

        Args:
            present: names of the durables that exist.

        Raises:
            Unavailable: also when one is missing and analytics cannot be asked about it.
        """
        async with self._database.transaction() as connection:
            known = {row["durable"] async for row in _queries.readers(connection)}
            if new := sorted(set(present) - known):
                await _queries.remember(connection, durables=new)
        missing = known - set(present)
        if not missing:
            return set()
        wanted = set((await self._link.request(ANALYTICS_ENGAGEMENT_READERS, Empty())).durables)
        if gone := sorted(missing - wanted):
            async with self._database.transaction() as connection:
                await _queries.forget(connection, durables=gone)
        return missing & wanted
