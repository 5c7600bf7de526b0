"""How a list is read: as of one moment, planned for its own filters, and not for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database


@asynccontextmanager
async def reading(database: Database, seconds: float, instead: str) -> AsyncIterator[Any]:
    """Lend a connection that reads a list.

    Statements are planned for the values that are really given, so that they use the fitting index.
    One that takes too long ends in PostgreSQL, too, which would go on for a caller who has given
    up.

    Args:
        database: where the list is.
        seconds: longest that each statement takes; less than the caller waits.
        instead: what would take less.

    Raises:
        Unavailable: PostgreSQL is not available, or a statement took longer; on a machine less busy
            it may not.
    """
    async with database.acquire(snapshot=True) as connection:
        await connection.execute(
            f"SET LOCAL statement_timeout = {round(seconds * 1000)}; "
            "SET LOCAL plan_cache_mode = force_custom_plan"
        )
        try:
            yield connection
        except asyncpg.QueryCanceledError as error:
            raise Unavailable(f"this takes longer than {seconds:g} s: {instead}") from error
