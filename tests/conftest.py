"""Fixtures every test may use: real servers once a run, a fresh database and bus for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest

from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.users import User
from tests.servers import Servers, running_servers


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """Real nats-server and PostgreSQL, for the whole run."""
    async with running_servers() as running:
        yield running


@pytest.fixture
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """An empty database for one test."""
    async with servers.fresh_database() as url:
        yield url


@pytest.fixture
async def fresh_bus(servers: Servers) -> None:
    """No streams on the bus."""
    client = await nats.connect(
        servers.nats_url(User.OPERATOR), inbox_prefix=inbox_prefix(User.OPERATOR)
    )
    js = client.jetstream(timeout=30)
    for stream in await js.streams_info():
        await js.delete_stream(str(stream.config.name))
    await client.close()
