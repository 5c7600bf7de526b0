"""Fixtures of the sandbox's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.sandbox.world import Receiver, World, receiver, sandbox


@pytest.fixture
async def posthog() -> AsyncIterator[World]:
    """A sandbox that consents by itself."""
    async with sandbox() as world:
        yield world


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiver() as started:
        yield started
