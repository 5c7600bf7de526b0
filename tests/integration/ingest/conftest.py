"""A fresh database, and fresh streams where needed, for every test of the ingest service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from tests.event_rows import create_partition
from tests.integration.ingest.driver import Driver
from tests.integration.ingest.people import People
from tests.servers import Servers


@pytest.fixture
async def driver(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
) -> AsyncIterator[Driver]:
    """A driver with a migrated database and existing streams; no replica runs."""
    driver = Driver(servers, database_url)
    async with driver.connected():
        yield driver


@pytest.fixture
async def people(database_url: str) -> AsyncIterator[People]:
    """A migrated database without people, and what reads and fills it."""
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    async with database.acquire() as connection:
        await create_partition(connection)
    yield People(database)
    await database.close()
