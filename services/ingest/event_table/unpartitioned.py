"""Bounds the table of events from before there were partitions, while events are written to it.

Migration 0020 made it the default partition, and while there is one that large, no other can be
made without reading all of it. So it is given an end, some time ahead: a constraint that counts for
new rows at once, and for the others when PostgreSQL has read them, while more are written. Then it
becomes the partition of everything until then.
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
from services.ingest.event_table.partitions import UNPARTITIONED, UNTIL, changing, listed

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("partitions.sql"), "asyncpg")

AHEAD = timedelta(days=7)
"""From now to the end of the table, at least. Replicas of the version before write no keys beside
the table, whose own index knows their events: they should be gone by then."""
LEFT = timedelta(days=3)
"""What must be left until the end for what is still to be done. While PostgreSQL reads the table,
or another transaction uses it, the end cannot be put off, and events behind it would wait."""


class Unpartitioned:
    """The table, as long as it has no bounds. Methods raise `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def bound(self) -> bool:
        """Give it an end.

        Returns:
            Whether there is nothing left to do; otherwise try again.

        Raises:
            Unavailable: also while another transaction keeps the table from being changed.
            asyncpg.PostgresError: PostgreSQL refuses.
        """
        async with self._database.acquire() as connection:
            if not await _is_unbounded(connection):
                return True
        end = await self._announced_end()
        if await self._validate(end):
            return await self._attach(end)
        return False

    async def _validate(self, end: datetime) -> bool:
        """Have PostgreSQL read the table; False when that has to be begun anew."""
        table = f'"{self._database.schema}".{UNPARTITIONED}'
        async with self._database.outside_transactions() as connection:
            try:
                async with connection.transaction():
                    await lift_time_limits(connection)
                    await connection.execute(
                        f"ALTER TABLE {table} VALIDATE CONSTRAINT {_constraint(end)}"
                    )
            except asyncpg.UndefinedObjectError:
                # Another replica was quicker, or began anew.
                return False
            except asyncpg.CheckViolationError:
                # Nothing ran for days, and then events came before the end was put off.
                newest = await connection.fetchval(f"SELECT max(received_at) FROM {table}")  # noqa: S608
                await self._announced_end(after=newest)
                return False
        return True

    async def free(self) -> None:
        """Take its constraint back, for an event that is received after the end."""
        async with changing(self._database) as connection:
            constraint = await _queries.bound(connection)
            if constraint and await _is_unbounded(connection):
                await _drop_constraint(connection, constraint["name"])

    async def _announced_end(self, after: datetime | None = None) -> datetime:
        """When it is to end, which new rows have to be before."""
        now = datetime.now(UTC)
        after = after or now
        async with changing(self._database) as connection:
            constraint = await _queries.bound(connection)
            if constraint is not None:
                end = _end_of(constraint["name"])
                if end - now > LEFT and end > after:
                    return end
                await _drop_constraint(connection, constraint["name"])
            end = _midnight_after(max(now, after) + AHEAD)
            await connection.execute(
                f"ALTER TABLE {UNPARTITIONED} ADD CONSTRAINT {_constraint(end)} "
                f"CHECK (received_at < '{end.isoformat()}') NOT VALID"
            )
        log.info("the events' table is looked through to be given bounds", end=end.isoformat())
        return end

    async def _attach(self, end: datetime) -> bool:
        async with changing(self._database) as connection:
            if not await _is_unbounded(connection):
                return True
            constraint = await _queries.bound(connection)
            if (
                constraint is None
                or constraint["name"] != _constraint(end)
                or not constraint["is_valid"]
            ):
                # Another replica began anew.
                return False
            # PostgreSQL reads no row: the constraint says that all of them are before the end.
            await connection.execute(
                f"ALTER TABLE events DETACH PARTITION {UNPARTITIONED}; "
                f"ALTER TABLE events ATTACH PARTITION {UNPARTITIONED} "
                f"FOR VALUES FROM (MINVALUE) TO ('{end.isoformat()}')"
            )
            await _drop_constraint(connection, constraint["name"])
        log.info("the events' table is a partition now", end=end.isoformat())
        return True


async def _is_unbounded(connection: Any) -> bool:
    found = await listed(connection)
    return any(one.name == UNPARTITIONED and one.is_unbounded for one in found)


async def _drop_constraint(connection: Any, name: str) -> None:
    await connection.execute(f"ALTER TABLE {UNPARTITIONED} DROP CONSTRAINT {name}")


def _midnight_after(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _constraint(end: datetime) -> str:
    return UNTIL + end.strftime("%Y%m%d")


def _end_of(constraint: str) -> datetime:
    return datetime.strptime(constraint.removeprefix(UNTIL), "%Y%m%d").replace(tzinfo=UTC)
