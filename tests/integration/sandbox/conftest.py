"""Fixtures for the tests of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.sandbox.driver import Driver, Receiver, receiver, sandbox


@pytest.fixture
async def posthog() -> AsyncIterator[Driver]:
    """A sandbox that grants consent automatically."""
    async with sandbox() as driver:
        yield driver


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiver() as running:
        yield running
