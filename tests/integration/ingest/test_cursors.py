"""Cursors of prepared statements that a connection caches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.queries import load


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    yield database
    await database.close()


async def test_a_cached_statement_that_a_migration_outdated_fails_once(
    database: Database, tmp_path: Path
) -> None:
    """A newer replica's migration may change the result of a cached statement of this replica."""
    file = tmp_path / "queries.sql"
    file.write_text("-- name: names()\nSELECT name FROM names;\n")
    queries = load(file)

    async def read() -> list[Any]:
        async with (
            database.acquire(snapshot=True) as connection,
            queries.names_cursor(connection) as rows,
        ):
            return [row["name"] async for row in rows]

    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE names (name int); INSERT INTO names VALUES (1)")
    assert await read() == [1]
    async with database.acquire() as connection:
        await connection.execute("ALTER TABLE names ALTER name TYPE text")
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        await read()
    assert await read() == ["1"]
