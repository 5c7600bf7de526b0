"""Connections that break in somebody's hands."""

from __future__ import annotations

import asyncpg
import pytest

from hogsend.database import Database
from hogsend.errors import Unavailable
from services.ingest.app import MIGRATIONS


@pytest.mark.parametrize(
    "error",
    [
        # What asyncpg says of a connection that was cut while a query was cancelled.
        asyncpg.InternalClientError("cannot switch to state 11"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed"),
        TimeoutError(),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_broken_connection_is_unavailable_and_the_next_one_works(
    database_url: str, error: Exception
) -> None:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect_forever()
    try:
        before = await backend(database)
        with pytest.raises(Unavailable):
            await backend(database, error)
        after = await backend(database)
        if isinstance(error, asyncpg.InternalClientError):
            assert after != before
    finally:
        await database.close()


async def backend(database: Database, error: Exception | None = None) -> int:
    """Process that serves the connection; raises `error` while it is held."""
    async with database.acquire() as connection:
        found = await connection.fetchval("SELECT pg_backend_pid()")
        if error is not None:
            raise error
    return int(found)
