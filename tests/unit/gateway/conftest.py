"""The gateway most tests ask: building one takes a tenth of a second, so they share it."""

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
    """A gateway with its default settings, and a connection over which nothing was said yet."""
    _shared_gateway.bus.reset()
    return _shared_gateway
