"""Acceptance cases 77 to 91: the life of an access token.

Hogsend keeps one memory per process and finds out by reading the row again; here credentials reads
the row every time, and a consumer keeps the memory until a credential event (cases 77, 86, 87).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply
from hogsend.contract.users import User
from hogsend.service.token_cache import TokenCache
from tests.integration.credentials.conftest import Driver
from tests.integration.harness import Credentials, connected
from tests.servers import Servers
from tests.waiting import eventually


class CountingCache(TokenCache):
    """Counts how often credentials is asked."""

    asked = 0

    async def _ask(self, rejected_sha256: str | None) -> TokenReply:
        self.asked += 1
        return await super()._ask(rejected_sha256)


@pytest.fixture
async def cache(servers: Servers, driver: Driver) -> AsyncIterator[CountingCache]:
    async with connected(servers, User.PROVISIONER) as bus:
        cache = CountingCache(bus, "posthog", driver.clock)
        await cache.subscribe()
        await bus.flush()
        yield cache


def warnings(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["log_level"] == "warning"]


async def test_case_77_a_token_with_hours_left_is_asked_for_once(
    driver: Driver, service: Credentials, cache: CountingCache
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=10 * 3600))
    assert (await cache.token()).token == "pha_0"
    assert (await cache.token()).token == "pha_0"
    assert cache.asked == 1
    assert driver.endpoint.asked == []


async def test_case_86_absence_is_remembered_until_something_is_stored(
    driver: Driver, service: Credentials, cache: CountingCache
) -> None:
    with capture_logs() as logs:
        assert (await cache.token()).source == "none"
        driver.clock.advance(29)
        assert (await cache.token()).source == "none"
    assert cache.asked == 1
    assert warnings(logs) == []
    # Nobody announces this one: an event that was lost.
    await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    assert (await cache.token()).source == "none"
    driver.clock.advance(1)
    assert (await cache.token()).token == "pha_0"


async def test_case_86_and_at_once_when_its_event_arrives(
    driver: Driver, service: Credentials, cache: CountingCache
) -> None:
    assert (await cache.token()).source == "none"
    await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    await service.relay.relay("posthog")

    async def arrived() -> bool:
        return (await cache.token()).token == "pha_0"

    await eventually(arrived)


async def test_the_token_travels_over_the_bus(
    servers: Servers, driver: Driver, service: Credentials, cache: CountingCache
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=59))
    reply = await cache.ask()
    assert (reply.source, reply.token) == ("oauth", "pha_1")
    assert reply.expires_at == driver.clock.now + timedelta(hours=1)
    assert CREDENTIALS_TOKEN.deadline > 2 * 10
