"""Moves a contact's events back to its own id before its merge is undone; there may be a million.

In the transaction that undoes the merge, this would take longer than a statement may. Until the
merge is undone, the contact's id is a key of the contact that it was merged into. So an event that
was moved still belongs to the same person, and may stay moved if the split fails.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiosql

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from services.ingest.event_table.partitions import list_partitions

_queries: Any = aiosql.from_path(Path(__file__).with_name("moving.sql"), "asyncpg")

MOVE_SECONDS = 15.0
"""After this time a request moves no more events. Together with the time limit of a statement it is
less than a caller waits."""
MAX_FOUND = 100_000
"""Most events that one query finds."""
MAX_MOVED = 5_000
"""Most events that one transaction moves; takes about a tenth of a second."""


async def move_events(database: Database, merge_id: int) -> None:
    """Move the events of the contact that was merged into another back to its own id.

    The transaction that undoes the merge moves the events that arrive meanwhile.

    Raises:
        Unavailable: there are more events than can be moved in this time; the next request
            continues.
    """
    async with database.acquire() as connection:
        merge = await _queries.merge(connection, id=merge_id)
        partitions = await list_partitions(connection) if merge is not None else []
    deadline = time.monotonic() + MOVE_SECONDS
    moved = 0
    for partition in partitions:
        where = {
            "user_ids": merge["user_ids"],
            "contacts": merge["contacts"],
            "relation": partition.relation,
            "begins": partition.begins,
            "ends": partition.ends,
        }
        while places := await _find_rows(database, where):
            for first in range(0, len(places), MAX_MOVED):
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"{moved} events of the contact that is split off were moved, and there "
                        "are more: split it again to continue"
                    )
                batch = places[first : first + MAX_MOVED]
                async with database.transaction() as connection:
                    await _queries.move(connection, **where, loser=merge["loser"], places=batch)
                moved += len(batch)


async def _find_rows(database: Database, where: Mapping[str, object]) -> list[Any]:
    async with database.acquire() as connection:
        rows = _queries.rows_to_move(connection, **where, most=MAX_FOUND)
        return [row["place"] async for row in rows]
