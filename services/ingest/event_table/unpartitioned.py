"""Gives the table of events from before partitions existed an end, while events are written to it.

Migration 0020 made it the default partition. As long as there is a default partition, PostgreSQL
reads all of it whenever another partition is created. So the table gets an end, some time ahead, in
three steps: a constraint that holds for new rows at once; its validation, in which PostgreSQL reads
the table while events are written; and the attachment as the partition of all times until the end.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
import structlog

from hogsend.service.database import Database
from hogsend.service.postgres_server import lift_time_limits
from services.ingest.event_table.partitions import (
    UNPARTITIONED,
    UNTIL,
    list_partitions,
    partition_change,
)

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("partitions.sql"), "asyncpg")

AHEAD = timedelta(days=7)
"""From now to the end of the table, at least. Replicas of the previous version write no keys: their
events are only known by the table's own index, so they should have ended by then."""
MIN_REMAINING = timedelta(days=3)
"""If less time remains until the end, the end is postponed first. It cannot be postponed while
PostgreSQL reads the table or another transaction uses it, and events after the end would wait."""


class Unpartitioned:
    """The table without an end. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def bound(self) -> bool:
        """Give the table an end.

        Returns:
            Whether the table has an end; otherwise try again.

        Raises:
            Unavailable: also while another transaction locks the table.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        async with self._database.acquire() as connection:
            if not await _is_unbounded(connection):
                return True
        end = await self._constrain()
        if await self._validate(end):
            return await self._attach(end)
        return False

    async def _validate(self, end: datetime) -> bool:
        """Validate the constraint, for which PostgreSQL reads the table; False to start again."""
        table = f'"{self._database.schema}".{UNPARTITIONED}'
        async with self._database.outside_transactions() as connection:
            try:
                async with connection.transaction():
                    await lift_time_limits(connection)
                    await connection.execute(
                        f"ALTER TABLE {table} VALIDATE CONSTRAINT {_constraint(end)}"
                    )
            except asyncpg.UndefinedObjectError:
                # Another replica has finished, or started again.
                return False
            except asyncpg.CheckViolationError:
                # No replica ran for days, and then events after the end were stored before the end
                # was postponed.
                newest = await connection.fetchval(f"SELECT max(received_at) FROM {table}")  # noqa: S608
                await self._constrain(after=newest)
                return False
        return True

    async def remove_constraint(self) -> None:
        """Drop the constraint, so that an event that is received after the end can be stored."""
        async with partition_change(self._database) as connection:
            constraint = await _queries.bound(connection)
            if constraint and await _is_unbounded(connection):
                await _drop_constraint(connection, constraint["name"])

    async def _constrain(self, after: datetime | None = None) -> datetime:
        """Add the constraint that new rows are before the end, or keep the existing one.

        Args:
            after: a time after which the end must be.

        Returns:
            The end.
        """
        now = datetime.now(UTC)
        after = after or now
        async with partition_change(self._database) as connection:
            constraint = await _queries.bound(connection)
            if constraint is not None:
                end = _end_of(constraint["name"])
                if end - now > MIN_REMAINING and end > after:
                    return end
                await _drop_constraint(connection, constraint["name"])
            end = _midnight_after(max(now, after) + AHEAD)
            await connection.execute(
                f"ALTER TABLE {UNPARTITIONED} ADD CONSTRAINT {_constraint(end)} "
                f"CHECK (received_at < '{end.isoformat()}') NOT VALID"
            )
        log.info("the events' table is read to be given an end", end=end.isoformat())
        return end

    async def _attach(self, end: datetime) -> bool:
        async with partition_change(self._database) as connection:
            if not await _is_unbounded(connection):
                return True
            constraint = await _queries.bound(connection)
            if (
                constraint is None
                or constraint["name"] != _constraint(end)
                or not constraint["is_valid"]
            ):
                # Another replica started again.
                return False
            # PostgreSQL reads no rows: by the constraint all of them are before the end.
            await connection.execute(
                f"ALTER TABLE events DETACH PARTITION {UNPARTITIONED}; "
                f"ALTER TABLE events ATTACH PARTITION {UNPARTITIONED} "
                f"FOR VALUES FROM (MINVALUE) TO ('{end.isoformat()}')"
            )
            await _drop_constraint(connection, constraint["name"])
        log.info("the events' table is a partition now", end=end.isoformat())
        return True


async def _is_unbounded(connection: Any) -> bool:
    partitions = await list_partitions(connection)
    return any(one.name == UNPARTITIONED and one.is_unbounded for one in partitions)


async def _drop_constraint(connection: Any, name: str) -> None:
    await connection.execute(f"ALTER TABLE {UNPARTITIONED} DROP CONSTRAINT {name}")


def _midnight_after(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _constraint(end: datetime) -> str:
    return UNTIL + end.strftime("%Y%m%d")


def _end_of(constraint: str) -> datetime:
    return datetime.strptime(constraint.removeprefix(UNTIL), "%Y%m%d").replace(tzinfo=UTC)
