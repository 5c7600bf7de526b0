"""Reads a list in one snapshot, with a plan for its filters and a time limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database


@asynccontextmanager
async def list_snapshot(database: Database, seconds: float, hint: str) -> AsyncIterator[Any]:
    """Acquire a connection to read a list with.

    All statements see one snapshot. Each is planned for its actual values, so that PostgreSQL uses
    the index that fits them. PostgreSQL cancels statements that take longer than the caller waits.

    Args:
        database: where the list is.
        seconds: time limit of each statement; less than the caller waits.
        hint: what the caller can request instead, if this takes too long.

    Raises:
        Unavailable: PostgreSQL is unavailable, or a statement took longer; it may succeed when the
            machine is less busy.
    """
    async with database.acquire(snapshot=True) as connection:
        await connection.execute(
            f"SET LOCAL statement_timeout = {round(seconds * 1000)}; "
            "SET LOCAL plan_cache_mode = force_custom_plan"
        )
        try:
            yield connection
        except asyncpg.QueryCanceledError as error:
            raise Unavailable(f"this takes longer than {seconds:g} s: {hint}") from error
