"""Maintains the partitions of the table of events: creates them ahead and drops old ones."""

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
from services.ingest.event_table.event_keys import EventKeys
from services.ingest.event_table.partitions import UNPARTITIONED, TablePartitions
from services.ingest.event_table.unpartitioned import Unpartitioned

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 600.0
RETRY_SECONDS = 60.0
START_SECONDS = 1.0
"""Pause between attempts until the first succeeds: PostgreSQL may not be available yet."""


class EventTable:
    """The table of events. Every replica maintains it; only one at a time changes it."""

    def __init__(self, database: Database, *, retention_days: int = 0) -> None:
        """Use `database`; events are kept for `retention_days`, or forever if that is 0."""
        self._database = database
        self._retention_days = retention_days
        self._partitions = TablePartitions(database, retention_days=retention_days)
        self._unpartitioned = Unpartitioned(database)
        self.keys = EventKeys()

    def retentions(self) -> list[Retention]:
        """The retentions by row: events from before partitions existed, and keys of old events."""
        swept = partial(Retention, self._database, column="received_at", days=self._retention_days)
        return [swept(UNPARTITIONED), swept("event_keys", end=self._partitions.keys_needed_since)]

    async def ensure_partitions(self, moments: Iterable[datetime]) -> None:
        """Make it possible to store events received at `moments`.

        Raises:
            Unavailable: PostgreSQL is unavailable.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        await self._unpartitioned.remove_constraint()
        await self._partitions.ensure_partitions(moments)

    async def maintain_forever(self) -> None:
        """Maintain the table regularly; never ends."""
        retry = START_SECONDS
        while True:
            pause = retry
            try:
                is_done = await self.maintain()
                retry = RETRY_SECONDS
                pause = INTERVAL_SECONDS if is_done else RETRY_SECONDS
            except Unavailable as error:
                _log_failure(error)
                if isinstance(error.__cause__, asyncpg.PostgresError):
                    pause = RETRY_SECONDS
            except asyncpg.PostgresError as error:
                metrics.FAILURES.labels("partitions", type(error).__name__).inc()
                log.warning("the events' partitions cannot be changed", reason=str(error))
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def maintain(self) -> bool:
        """Bound the old table, create partitions ahead, and drop old ones.

        Returns:
            Whether everything is done; otherwise try again soon.

        Raises:
            Unavailable: PostgreSQL is unavailable, or other transactions kept using the table.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        is_bounded = await self._unpartitioned.bound()
        await self._partitions.make_ahead()
        await self._partitions.drop_old()
        async with self._database.acquire() as connection:
            await self.keys.read_bounds(connection)
        return is_bounded


def _log_failure(error: Unavailable) -> None:
    """Log why the partitions are not maintained; an operator can end a blocking transaction."""
    metrics.FAILURES.labels("partitions", error.code).inc()
    if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
        log.debug("the events' partitions cannot be maintained yet", reason=str(error))
        return
    log.warning(
        "the events' partitions cannot be changed while a transaction uses them; it is tried again",
        fix="if it stays so, pg_stat_activity shows what is open for long, or a vacuum of events",
    )
