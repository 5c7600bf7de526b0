"""A list that takes too long ends in PostgreSQL, too, and says what to ask for instead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from hogsend.contract.errors import Unavailable


@asynccontextmanager
async def time_limit(connection: Any, seconds: float, instead: str) -> AsyncIterator[None]:
    """Limit each statement of a block, and of the transaction it is in.

    Without it PostgreSQL goes on for a caller who has given up.

    Args:
        connection: in a transaction.
        seconds: less than the caller waits.
        instead: what would take less.

    Raises:
        Unavailable: a statement took longer; on a machine less busy it may not.
    """
    await connection.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise Unavailable(f"this takes longer than {seconds:g} s: {instead}") from error
