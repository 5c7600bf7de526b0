"""A fresh database and fresh streams for every test of the ingest service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingest.driver import Driver
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
