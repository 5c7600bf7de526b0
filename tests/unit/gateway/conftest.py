"""The gateway that most tests send requests to. Building it takes 0.1 seconds: it is shared."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway.fakes import FakeGateway, fake_gateway


@pytest.fixture(scope="session")
async def _shared_gateway() -> AsyncIterator[FakeGateway]:
    async with fake_gateway(admin_failed_key_limit=10_000) as gateway:
        yield gateway


@pytest.fixture
def gateway(_shared_gateway: FakeGateway) -> FakeGateway:
    """Return the shared gateway, with default settings and without replies or sent messages."""
    _shared_gateway.bus.reset()
    return _shared_gateway
