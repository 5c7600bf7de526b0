"""A fresh database and fresh streams for every test of the ingest service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingest.world import World
from tests.servers import Servers


@pytest.fixture
async def world(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
) -> AsyncIterator[World]:
    """Migrated database, existing streams, no replica running."""
    world = World(servers, database_url)
    async with world.looking():
        yield world
