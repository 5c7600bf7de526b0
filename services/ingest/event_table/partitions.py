"""Partitions of the table of events, by time of receipt.

Partitions are created some time ahead, and for any other time when an event of that time arrives.
So every event has a partition. A partition whose events are all past retention is dropped as a
whole. See docs/adr/0033.
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
"""The table from before partitions existed; since migration 0020 it is a partition, too."""
UNTIL = f"{UNPARTITIONED}_until_"
"""Prefix of the name of the constraint that gives this table an end; the day follows."""
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
PARTITIONS_KEPT = 30
"""The time for which events are kept is divided into so many partitions."""
DAYS_WITHOUT_RETENTION = 30
"""Days of a partition if events are kept forever."""
LEAST_AHEAD = timedelta(days=8)
"""How far ahead partitions are created at least. The previous version creates none, and may run
again for a while after a rollback."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Partition(msgspec.Struct, frozen=True):
    """A partition: the events received at `begins` or later, and before `ends`."""

    relation: int
    """OID of the table."""
    name: str
    begins: datetime
    ends: datetime
    expected_rows: int
    """Number of rows by PostgreSQL's estimate."""
    blocks: int
    """Size in blocks."""

    @property
    def is_unbounded(self) -> bool:
        """Whether it has no end: it is the table from before partitions existed, without bounds."""
        return self.ends == LATEST

    def contains(self, moment: datetime) -> bool:
        """Whether an event that was received at `moment` belongs to this partition."""
        return self.begins <= moment < self.ends


class TablePartitions:
    """Creates and drops partitions. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database, *, retention_days: int = 0) -> None:
        """Use `database`; events are kept for `retention_days`, or forever if that is 0."""
        self._database = database
        self._retention_days = retention_days
        self._width = timedelta(days=partition_days(retention_days))

    async def keys_needed_since(self) -> datetime:
        """The time of receipt before which keys are not needed, because no event has one.

        Events of the table from before partitions existed are found by its own unique index.
        """
        async with self._database.acquire() as connection:
            partitions = await list_partitions(connection)
        begins = [one.begins for one in partitions if one.name != UNPARTITIONED]
        return min([self._oldest(), *begins])

    async def make_ahead(self) -> None:
        """Create the partitions for now and for one partition's width ahead, or `LEAST_AHEAD`.

        Raises:
            Unavailable: also while another transaction locks the table.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        moment = datetime.now(UTC)
        until = moment + max(self._width, LEAST_AHEAD)
        async with partition_change(self._database) as connection:
            partitions = await list_partitions(connection)
            while moment <= until:
                moment = (await self._partition_for(connection, moment, partitions)).ends

    async def ensure_partitions(self, moments: Iterable[datetime]) -> None:
        """Create missing partitions for events received at `moments`.

        Raises:
            Unavailable: also while another transaction locks the table.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        async with partition_change(self._database) as connection:
            partitions = await list_partitions(connection)
            for moment in moments:
                await self._partition_for(connection, moment, partitions)

    async def _partition_for(
        self, connection: Any, moment: datetime, partitions: list[Partition]
    ) -> Partition:
        """Return the partition of a time; if it is missing, create it and update `partitions`."""
        if not any(one.contains(moment) for one in partitions):
            await create_partition(connection, *free_span(moment, self._width, partitions))
            partitions[:] = await list_partitions(connection)
        return next(one for one in partitions if one.contains(moment))

    async def drop_old(self) -> int:
        """Drop the partitions whose events are all past retention.

        Other statements wait at most half a second for a partition that is being dropped. If one
        cannot be dropped, the others are dropped nevertheless.

        Returns:
            How many were dropped.

        Raises:
            Unavailable: other transactions kept using the events; try again.
            asyncpg.PostgresError: PostgreSQL refuses, for example because another object depends on
                a partition.
        """
        if not self._retention_days:
            return 0
        async with self._database.acquire() as connection:
            # By PostgreSQL's clock and this machine's: if one is wrong, too much would be dropped
            # for good.
            by_postgresql = await _queries.days_ago(connection, days=self._retention_days)
            oldest = min(self._oldest(), by_postgresql)
            old = [one for one in await list_partitions(connection) if one.ends <= oldest]
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
        async with partition_change(self._database) as connection:
            if partition.relation not in {
                one.relation for one in await list_partitions(connection)
            }:
                # Another replica was quicker.
                return
            await _queries.wait_for_sweep(connection, name=partition.name)
            await connection.execute(f"DROP TABLE {partition.name}")
        metrics.RETENTION_DELETED.labels("events").inc(partition.expected_rows)
        log.info(
            "old events dropped",
            partition=partition.name,
            rows=partition.expected_rows,
            days=self._retention_days,
        )


def partition_days(retention_days: int) -> int:
    """The number of days of a new partition."""
    if not retention_days:
        return DAYS_WITHOUT_RETENTION
    return -(-retention_days // PARTITIONS_KEPT)


def free_span(
    moment: datetime, width: timedelta, partitions: Sequence[Partition]
) -> tuple[datetime, datetime]:
    """Return the start and end of a new partition for `moment`, which no partition contains.

    Partitions start at multiples of their width since 1970. If partitions of another width overlap,
    the new one is shorter.
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
async def partition_change(database: Database) -> AsyncIterator[Any]:
    """Start a transaction that changes partitions; only one runs at a time.

    It waits only briefly for each lock, because other statements wait after it.

    Raises:
        Unavailable: a lock was not free, or PostgreSQL is unavailable.
    """
    async with database.acquire() as connection, connection.transaction():
        await _queries.lock_partitions(connection)
        await _queries.wait_briefly(connection)
        yield connection


async def list_partitions(connection: Any) -> list[Partition]:
    """Return all partitions in order of time."""
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


async def create_partition(connection: Any, begins: datetime, ends: datetime) -> None:
    """Create a partition; readers and writers do not wait, and see it after the commit."""
    day = begins.date().isoformat().replace("-", "")
    name = f"events_{day}"
    await connection.execute(
        _CREATE.format(name=name, begins=begins.isoformat(), ends=ends.isoformat())
    )
    log.info("a partition for events was created", partition=name, ends=ends.isoformat())


def has_no_partition(error: asyncpg.PostgresError) -> bool:
    """Whether PostgreSQL rejected an event because no partition contains its time of receipt."""
    if not isinstance(error, asyncpg.CheckViolationError):
        return False
    constraint = getattr(error, "constraint_name", None)
    return constraint is None or constraint.startswith(UNTIL)
