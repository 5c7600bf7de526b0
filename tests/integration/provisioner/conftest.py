"""Fixtures for the provisioner's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provisioner.driver import WITH_SECRET, Driver, start_driver
from tests.posthog_recorder import Recorder, posthog_recorder
from tests.servers import Servers

Start = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture
async def posthog() -> AsyncIterator[Recorder]:
    """A recording PostHog without destinations."""
    async with posthog_recorder() as recorder:
        yield recorder


@pytest.fixture
def start(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder, tmp_path: Path
) -> Start:
    """Return a function that starts a driver, with changes to the fixture environment."""

    def start_with(**differences: Any) -> AbstractAsyncContextManager[Driver]:
        return start_driver(servers, database_url, posthog, tmp_path, **differences)

    return start_with


@pytest.fixture
async def driver(start: Start) -> AsyncIterator[Driver]:
    """A driver with a stored OAuth grant and a webhook secret in the environment."""
    async with start(environment=WITH_SECRET) as running:
        yield running
