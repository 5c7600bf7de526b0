"""Deletes rows of a table that are older than a number of days, a little at a time.

A sweep walks the table in the order it lies on disk, some blocks in each transaction. So it needs
no index, locks nothing but the rows it deletes, reads every block once, and can end anywhere: what
it has not come to the next sweep deletes. The space is used for new rows after PostgreSQL's vacuum.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.database import Database

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 6 * 3600.0
"""From the end of a sweep to the next."""
RETRY_SECONDS = 60.0
BLOCKS = 128
"""Blocks of 8 KiB in one transaction."""
_OTHER_REPLICA = -1
_ALONE = """
SELECT pg_try_advisory_xact_lock(hashtext('retention'), hashtext($1))
    AND to_regclass($1) IS NOT NULL
"""


class Retention:
    """Keeps one table free of old rows; every replica does, and one at a time."""

    def __init__(
        self,
        database: Database,
        table: str,
        *,
        column: str,
        days: int,
        end: Callable[[], Awaitable[datetime]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            database: whose schema has the table.
            table: its name; nothing is done while there is none.
            column: when a row came into being.
            days: how long a row is kept; 0 is for ever.
            end: says before when a row must have come into being to be deleted, where that is not
                told by the days alone.
        """
        self._database = database
        self._table = table
        self._days = days
        self._end = end or self._days_ago
        # Names come from the service itself, and PostgreSQL takes none as parameters. The time is
        # told by two clocks: nothing brings back what is deleted by one that is wrong.
        self._statement = (
            f"DELETE FROM {table} WHERE ctid >= $1::tid AND ctid < $2::tid "  # noqa: S608
            f"AND {column} < least($3, now() - make_interval(days => {days}))"
        )

    async def keep_swept(self) -> None:
        """Sweep again and again; ends at once when rows are kept for ever."""
        while self._days:
            pause = SWEEP_SECONDS
            try:
                await self.sweep()
            except Unavailable as error:
                pause = RETRY_SECONDS
                metrics.FAILURES.labels("retention", error.code).inc()
                log.debug("old rows are not deleted yet", table=self._table, reason=str(error))
            except asyncpg.PostgresError as error:
                metrics.FAILURES.labels("retention", type(error).__name__).inc()
                log.warning("old rows are not deleted", table=self._table, reason=str(error))
            await asyncio.sleep(pause)

    async def sweep(self) -> int:
        """Delete what is too old by now, unless another replica is at it.

        Returns:
            How many rows were deleted.

        Raises:
            Unavailable: PostgreSQL is not available.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        started = time.perf_counter()
        deleted = 0
        async with self._database.acquire() as connection:
            blocks: int | None = await connection.fetchval(
                "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::int",
                self._table,
            )
        for first in range(0, blocks or 0, BLOCKS):
            step = time.perf_counter()
            count = await self._delete(first, first + BLOCKS, await self._end())
            if count == _OTHER_REPLICA:
                break
            deleted += count
            if count:
                metrics.RETENTION_DELETED.labels(self._table).inc(count)
                # As long as it worked: half of one connection's time belongs to others.
                await asyncio.sleep(time.perf_counter() - step)
        if deleted:
            seconds = round(time.perf_counter() - started, 3)
            log.info(
                "old rows deleted",
                table=self._table,
                rows=deleted,
                days=self._days,
                seconds=seconds,
            )
        return deleted

    async def _days_ago(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=self._days)

    async def _delete(self, first: int, end: int, before: datetime) -> int:
        async with self._database.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_ALONE, self._table):
                return _OTHER_REPLICA
            status = await connection.execute(self._statement, (first, 0), (end, 0), before)
        return int(status.removeprefix("DELETE "))
