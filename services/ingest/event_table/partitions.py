"""Partitions of the table of events, by the time of their receipt.

They are made some time ahead, and for any other time when an event of it comes, so that every event
has a place. A partition whose events are all too old is dropped whole. See docs/adr/0033.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
import msgspec
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.database import Database

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("partitions.sql"), "asyncpg")
_CREATE = Path(__file__).with_name("new_partition.sql").read_text(encoding="utf-8")

UNPARTITIONED = "events_unpartitioned"
"""The table from before there were partitions (migration 0020), and a partition itself."""
UNTIL = f"{UNPARTITIONED}_until_"
"""How the constraint is called that is to be its end; then follows the day."""
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
PARTITIONS_KEPT = 30
"""How many partitions the days that events are kept are divided into."""
DAYS_WITHOUT_RETENTION = 30
LEAST_AHEAD = timedelta(days=8)
"""How far ahead partitions are made. The version before makes none, and may be back for a while."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Partition(msgspec.Struct, frozen=True):
    """One table of events: those received from `begins` until before `ends`."""

    relation: int
    """PostgreSQL's number of the table, which is never used again."""
    name: str
    begins: datetime
    ends: datetime
    expected_rows: int
    """By PostgreSQL's estimate."""
    blocks: int
    """How many blocks it fills."""

    @property
    def is_unbounded(self) -> bool:
        """Whether it is still the only one, whatever the time."""
        return self.ends == LATEST

    def holds(self, moment: datetime) -> bool:
        """Whether an event that is received at `moment` lies in it."""
        return self.begins <= moment < self.ends


class TablePartitions:
    """The partitions there are. Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database, *, retention_days: int = 0) -> None:
        """Use `database`; events are kept for some days, or with 0 for ever."""
        self._database = database
        self._retention_days = retention_days
        self._width = timedelta(days=days_of_a_partition(retention_days))

    async def gone_before(self) -> datetime:
        """Before when no event is left that only its key makes known."""
        async with self._database.acquire() as connection:
            partitions = await listed(connection)
        # The table from before there were partitions knows its events by an index of its own.
        begins = [one.begins for one in partitions if one.name != UNPARTITIONED]
        return min([self._oldest(), *begins])

    async def make_ahead(self) -> None:
        """Make the partitions from now on, a partition's width ahead, `LEAST_AHEAD` at least.

        Raises:
            Unavailable: also while another transaction keeps the table from being changed.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        moment = datetime.now(UTC)
        until = moment + max(self._width, LEAST_AHEAD)
        async with changing(self._database) as connection:
            partitions = await listed(connection)
            while moment <= until:
                moment = (await self._made(connection, moment, partitions)).ends

    async def make_room(self, moments: Iterable[datetime]) -> None:
        """Make sure that events received at `moments` have a partition.

        Raises:
            Unavailable: also while another transaction keeps the table from being changed.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        async with changing(self._database) as connection:
            partitions = await listed(connection)
            for moment in moments:
                await self._made(connection, moment, partitions)

    async def _made(
        self, connection: Any, moment: datetime, partitions: list[Partition]
    ) -> Partition:
        """Find the partition of a moment among all, or make it, and list them anew."""
        if not any(one.holds(moment) for one in partitions):
            await make(connection, *gap(moment, self._width, partitions))
            partitions[:] = await listed(connection)
        return next(one for one in partitions if one.holds(moment))

    async def drop_old(self) -> int:
        """Drop partitions whose events are all older than they are kept.

        No statement waits longer than half a second for one. One that cannot be dropped does not
        keep the others.

        Returns:
            How many were dropped.

        Raises:
            Unavailable: other transactions used the events all that time; try again.
            asyncpg.PostgresError: PostgreSQL refuses, as when something depends on a partition.
        """
        if not self._retention_days:
            return 0
        async with self._database.acquire() as connection:
            # By two clocks: nothing brings back what is dropped by one that is wrong.
            there = await _queries.days_ago(connection, days=self._retention_days)
            oldest = min(self._oldest(), there)
            old = [one for one in await listed(connection) if one.ends <= oldest]
        refusal: Exception | None = None
        for partition in old:
            try:
                await self._drop(partition)
            except (Unavailable, asyncpg.PostgresError) as error:
                refusal = error
        if refusal is not None:
            raise refusal
        return len(old)

    def _oldest(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=self._retention_days)

    async def _drop(self, partition: Partition) -> None:
        async with changing(self._database) as connection:
            if partition.relation not in {one.relation for one in await listed(connection)}:
                # Another replica was quicker.
                return
            await _queries.keep_from_sweep(connection, name=partition.name)
            await connection.execute(f"DROP TABLE {partition.name}")
        metrics.RETENTION_DELETED.labels("events").inc(partition.expected_rows)
        log.info(
            "old events dropped",
            partition=partition.name,
            rows=partition.expected_rows,
            days=self._retention_days,
        )


def days_of_a_partition(retention_days: int) -> int:
    """How many days a new partition is for."""
    if not retention_days:
        return DAYS_WITHOUT_RETENTION
    return -(-retention_days // PARTITIONS_KEPT)


def gap(
    moment: datetime, width: timedelta, partitions: Sequence[Partition]
) -> tuple[datetime, datetime]:
    """Say from when until when a partition for `moment` can be; none of `partitions` holds it.

    Partitions begin at multiples of their width since 1970, unless others that were made with
    another width are in the way.
    """
    begins = moment - (moment - _EPOCH) % width
    ends = begins + width
    for one in partitions:
        if one.ends <= moment:
            begins = max(begins, one.ends)
        else:
            ends = min(ends, one.begins)
    return begins, ends


@asynccontextmanager
async def changing(database: Database) -> AsyncIterator[Any]:
    """A transaction that alone changes partitions, and waits only briefly for each of its locks.

    Raises:
        Unavailable: a lock was not to be had, or PostgreSQL is not available.
    """
    async with database.acquire() as connection, connection.transaction():
        await _queries.lock_partitions(connection)
        await _queries.wait_briefly(connection)
        yield connection


async def listed(connection: Any) -> list[Partition]:
    """All partitions, in the order of time."""
    return [
        Partition(
            relation=row["relation"],
            name=row["name"],
            begins=row["begins"] or EARLIEST,
            ends=row["ends"] or LATEST,
            expected_rows=row["expected_rows"],
            blocks=row["blocks"],
        )
        async for row in _queries.partitions(connection)
    ]


async def make(connection: Any, begins: datetime, ends: datetime) -> None:
    """Make a partition; no reader or writer waits for it, and none sees it before the commit."""
    day = begins.date().isoformat().replace("-", "")
    name = f"events_{day}"
    await connection.execute(
        _CREATE.format(name=name, begins=begins.isoformat(), ends=ends.isoformat())
    )
    log.info("a partition for events was made", partition=name, ends=ends.isoformat())


def has_no_partition(error: asyncpg.PostgresError) -> bool:
    """Whether PostgreSQL refused an event because there is no place for its time of receipt."""
    if not isinstance(error, asyncpg.CheckViolationError):
        return False
    constraint = getattr(error, "constraint_name", None)
    return constraint is None or constraint.startswith(UNTIL)
