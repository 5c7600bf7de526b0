"""Gives people back their events before they are split from another: there may be a million.

In the transaction that undoes the merge they would take longer than a statement may. Until then the
contact's id leads to the one that it became part of, so an event under it belongs to the same
person, and what is moved may stay so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiosql

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from services.ingest.event_table.partitions import listed

_queries: Any = aiosql.from_path(Path(__file__).with_name("moving.sql"), "asyncpg")

MOVE_SECONDS = 15.0
"""After this time no more are moved for one request. With a statement that takes as long as one
may, it is less than a caller waits."""
FOUND_AT_ONCE = 100_000
MOVED_AT_ONCE = 5_000
"""Events that one transaction moves, about a tenth of a second."""


async def move_events(database: Database, merge_id: int) -> None:
    """Put events of the one that a merge took in under that contact's own id again.

    The transaction that undoes the merge moves what comes in meanwhile.

    Raises:
        Unavailable: there are more than can be moved in this time; the same again goes on.
    """
    async with database.acquire() as connection:
        merge = await _queries.merge(connection, id=merge_id)
        partitions = await listed(connection) if merge is not None else []
    ends = time.monotonic() + MOVE_SECONDS
    moved = 0
    for partition in partitions:
        where = {
            "user_ids": merge["user_ids"],
            "contacts": merge["contacts"],
            "relation": partition.relation,
            "begins": partition.begins,
            "ends": partition.ends,
        }
        while places := await _found(database, where):
            for first in range(0, len(places), MOVED_AT_ONCE):
                if time.monotonic() > ends:
                    raise Unavailable(
                        f"{moved} events of the contact that is split off were moved, and there "
                        "are more: split it again to go on"
                    )
                some = places[first : first + MOVED_AT_ONCE]
                async with database.transaction() as connection:
                    await _queries.move(connection, **where, loser=merge["loser"], places=some)
                moved += len(some)


async def _found(database: Database, where: Mapping[str, object]) -> list[Any]:
    async with database.acquire() as connection:
        found = _queries.found(connection, **where, most=FOUND_AT_ONCE)
        return [row["place"] async for row in found]
