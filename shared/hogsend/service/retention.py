"""Deletes rows of a table that are older than a number of days, in small transactions.

A sweep walks the table in its order on disk, `BLOCKS` blocks in each transaction. So it needs no
index, locks only the rows that it deletes, and reads every block once. It can be interrupted
anywhere: the next sweep deletes the remaining rows. After PostgreSQL's vacuum the space is reused
for new rows.
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
"""Pause between the end of a sweep and the start of the next."""
RETRY_SECONDS = 60.0
"""Pause after a sweep that failed because PostgreSQL was not available."""
BLOCKS = 128
"""Blocks of 8 KiB that one transaction sweeps."""
_OTHER_REPLICA = -1
_LOCK = """
SELECT pg_try_advisory_xact_lock(hashtext('retention'), hashtext($1))
    AND to_regclass($1) IS NOT NULL
"""


class Retention:
    """Keeps one table free of old rows. Every replica runs it, and one of them sweeps at a time."""

    def __init__(
        self,
        database: Database,
        table: str,
        *,
        column: str,
        days: int,
        end: Callable[[], Awaitable[datetime]] | None = None,
    ) -> None:
        """Prepare without connecting.

        Args:
            database: its schema contains the table.
            table: name of the table; while it does not exist nothing is deleted.
            column: the time from which a row's age is counted.
            days: how long a row is kept; 0 keeps all rows.
            end: returns the time before which rows are deleted, where more than their age decides.
                A row younger than `days` is never deleted.
        """
        self._database = database
        self._table = table
        self._days = days
        self._end = end or self._days_ago
        # PostgreSQL accepts no names as parameters; these come from the service's own code. Two
        # clocks must agree that a row is old, the service's ($3) and PostgreSQL's: a wrong clock
        # would delete rows that cannot be restored.
        self._statement = (
            f"DELETE FROM {table} WHERE ctid >= $1::tid AND ctid < $2::tid "  # noqa: S608
            f"AND {column} < least($3, now() - make_interval(days => {days}))"
        )

    async def sweep_periodically(self) -> None:
        """Sweep every `SWEEP_SECONDS` until cancelled; returns at once when all rows are kept."""
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
        """Delete the rows that are too old, unless another replica is sweeping the table.

        Returns:
            Number of rows deleted.

        Raises:
            Unavailable: PostgreSQL is not available.
            asyncpg.PostgresError: PostgreSQL rejected a statement.
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
                # Pause for as long as the step took, so that a sweep uses at most half of one
                # connection's time.
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
            if not await connection.fetchval(_LOCK, self._table):
                return _OTHER_REPLICA
            status = await connection.execute(self._statement, (first, 0), (end, 0), before)
        return int(status.removeprefix("DELETE "))
