"""Acceptance cases 77 and 86: how long a service caches its bearer.

Upstream caches the bearer in its one process and reads the row again. Here the credentials service
reads the row for every request, and its clients cache the bearer until a credential event.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_TOKEN, CredentialChanged, TokenRequest
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection
from tests.unit.credentials.conftest import Driver, Replica


class Link(Connection):
    """Sends requests to a replica in this process, and counts them."""

    def __init__(self, replica: Replica) -> None:
        super().__init__("provisioner", "nats://127.0.0.1:4222")
        self._replica = replica
        self.requests = 0

    async def request(
        self, endpoint: Endpoint[Request, Reply], message: Request, **_options: Any
    ) -> Reply:
        self.requests += 1
        assert endpoint.subject == CREDENTIALS_TOKEN.subject
        assert isinstance(message, TokenRequest)
        return cast("Reply", await self._replica.resolver.resolve(message))


@pytest.fixture
def link(replica: Replica) -> Link:
    return Link(replica)


@pytest.fixture
def watcher(driver: Driver) -> CredentialWatcher:
    return CredentialWatcher("posthog", driver.clock.seconds)


@pytest.fixture
def cache(driver: Driver, link: Link, watcher: CredentialWatcher) -> BearerCache:
    return BearerCache(link, watcher, driver.clock)


async def test_case_77_a_token_with_hours_left_is_requested_once(
    driver: Driver, link: Link, cache: BearerCache
) -> None:
    await driver.put(driver.grant(left=10 * 3600))
    assert (await cache.token()).token == "pha_0"
    assert (await cache.token()).token == "pha_0"
    assert link.requests == 1
    assert driver.endpoint.requests == []


async def test_case_86_absence_is_cached_until_a_credential_is_stored(
    driver: Driver, link: Link, cache: BearerCache
) -> None:
    with capture_logs() as logs:
        assert (await cache.token()).source == "none"
        driver.clock.advance(29)
        assert (await cache.token()).source == "none"
    assert link.requests == 1
    assert [entry for entry in logs if entry["log_level"] == "warning"] == []
    # The event of this change is lost.
    await driver.put(driver.grant(left=3600))
    assert (await cache.token()).source == "none"
    driver.clock.advance(1)
    assert (await cache.token()).token == "pha_0"


async def test_case_86_absence_ends_at_once_when_the_event_arrives(
    driver: Driver, replica: Replica, watcher: CredentialWatcher, cache: BearerCache
) -> None:
    assert (await cache.token()).source == "none"
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
    (change,) = driver.stream.changes
    assert isinstance(change, CredentialChanged)
    watcher.changed(change)
    assert (await cache.token()).token == "pha_0"


async def test_a_token_that_is_about_to_expire_is_requested_again(
    driver: Driver, link: Link, cache: BearerCache
) -> None:
    await driver.put(driver.grant(left=80))
    assert (await cache.token()).token == "pha_0"
    driver.clock.advance(20)
    assert (await cache.token()).token == "pha_1"
    assert link.requests == 2
