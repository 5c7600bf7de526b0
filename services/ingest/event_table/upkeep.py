"""Keeps the table of events in partitions: made ahead and on demand, and dropped when old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import partial

import asyncpg
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.database import Database
from hogsend.service.retention import Retention
from services.ingest.event_table.known_events import KnownEvents
from services.ingest.event_table.partitions import UNPARTITIONED, TablePartitions
from services.ingest.event_table.unpartitioned import Unpartitioned

log = structlog.get_logger(__name__)

LOOK_SECONDS = 600.0
RETRY_SECONDS = 60.0
START_SECONDS = 1.0
"""From one attempt to the next until the first has succeeded: PostgreSQL may not be there yet."""


class EventTable:
    """The table of events; every replica looks after it, and one at a time changes it."""

    def __init__(self, database: Database, *, retention_days: int = 0) -> None:
        """Use `database`; events are kept for some days, or with 0 for ever."""
        self._database = database
        self._retention_days = retention_days
        self._partitions = TablePartitions(database, retention_days=retention_days)
        self._unpartitioned = Unpartitioned(database)
        self.known = KnownEvents()

    def retentions(self) -> list[Retention]:
        """What deletes by row: events from before there were partitions, and keys of old events."""
        swept = partial(Retention, self._database, column="received_at", days=self._retention_days)
        return [swept(UNPARTITIONED), swept("event_keys", end=self._partitions.gone_before)]

    async def make_room(self, moments: Iterable[datetime]) -> None:
        """Make sure that events received at `moments` can be stored.

        Raises:
            Unavailable: PostgreSQL is not available.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        await self._unpartitioned.free()
        await self._partitions.make_room(moments)

    async def keep(self) -> None:
        """Look after the table; never ends."""
        retry = START_SECONDS
        while True:
            pause = retry
            try:
                is_done = await self.look()
                retry = RETRY_SECONDS
                pause = LOOK_SECONDS if is_done else RETRY_SECONDS
            except Unavailable as error:
                _say_why(error)
                if isinstance(error.__cause__, asyncpg.PostgresError):
                    pause = RETRY_SECONDS
            except asyncpg.PostgresError as error:
                metrics.FAILURES.labels("partitions", type(error).__name__).inc()
                log.warning("the events' partitions cannot be changed", reason=str(error))
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def look(self) -> bool:
        """Do what there is to do.

        Returns:
            Whether all of it was done; otherwise try again soon.

        Raises:
            Unavailable: PostgreSQL is not available, or other transactions use the table all the
                time.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        is_bounded = await self._unpartitioned.bound()
        await self._partitions.make_ahead()
        await self._partitions.drop_old()
        async with self._database.acquire() as connection:
            await self.known.look_up_bounds(connection)
        return is_bounded


def _say_why(error: Unavailable) -> None:
    """Log why partitions are not looked at; an operator can end what is in the way."""
    metrics.FAILURES.labels("partitions", error.code).inc()
    if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
        log.debug("the events' partitions are looked at later", reason=str(error))
        return
    log.warning(
        "the events' partitions cannot be changed while a transaction uses them; it is tried again",
        fix="if it stays so, pg_stat_activity shows what is open for long, or a vacuum of events",
    )
