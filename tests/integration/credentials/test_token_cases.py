"""Acceptance cases 77 to 91: the life of an access token.

Hogsend keeps one memory per process and finds out by reading the row again; here credentials reads
the row every time, and a consumer keeps the memory until a credential event (cases 77, 86, 87).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply
from hogsend.contract.users import User
from hogsend.service.token_cache import TokenCache
from services.credentials.store import RefreshLock
from tests.integration.credentials.conftest import Driver, ask, stored
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


@pytest.mark.parametrize(("left", "refreshed"), [(61, False), (60, True), (59, True)])
async def test_case_78_a_refresh_is_due_sixty_seconds_before_expiry(
    driver: Driver, service: Credentials, left: float, refreshed: bool
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=left))
    reply = await ask(service)
    assert reply.token == ("pha_1" if refreshed else "pha_0")
    assert len(driver.endpoint.asked) == refreshed


async def test_case_79_the_refresh_is_one_form_without_authorization(
    driver: Driver, service: Credentials
) -> None:
    grant = driver.grant(left=-5)
    await service.credentials.put_oauth("posthog", grant)
    await ask(service)
    (asked,) = driver.endpoint.asked
    assert asked.path == "/oauth/token/"
    assert asked.form == {
        "grant_type": "refresh_token",
        "refresh_token": "phr_0",
        "client_id": grant.client_id,
    }
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert "authorization" not in headers
    assert headers["accept"] == "application/json"
    assert headers["content-type"] == "application/x-www-form-urlencoded"


async def test_case_80_what_the_answer_brings_is_stored(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    driver.endpoint.answer = {
        "access_token": "pha_new",
        "refresh_token": "phr_new",
        "expires_in": 7200,
        "scope": "person:read person:write",
        "scoped_teams": [7],
        "scoped_organizations": ["o"],
    }
    assert (await ask(service)).token == "pha_new"
    assert await stored(service) == driver.grant(
        left=7200,
        access_token="pha_new",
        refresh_token="phr_new",
        scopes=["person:read", "person:write"],
        scoped_teams=[7],
        scoped_organizations=["o"],
    )


@pytest.mark.parametrize("extra", [{}, {"scoped_teams": ["x"], "scope": 5, "refresh_token": None}])
async def test_case_81_what_the_answer_leaves_out_is_kept(
    driver: Driver, service: Credentials, extra: dict[str, Any]
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    driver.endpoint.answer = {"access_token": "pha_new", "expires_in": 60.5, **extra}
    await ask(service)
    assert await stored(service) == driver.grant(left=60.5, access_token="pha_new")


async def test_case_82_two_callers_share_one_refresh(driver: Driver, service: Credentials) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    before = (await service.store.load("posthog")).version
    replies = await asyncio.gather(ask(service), ask(service))
    assert {reply.token for reply in replies} == {"pha_1"}
    assert len(driver.endpoint.asked) == 1
    assert len({reply.version for reply in replies}) == 1
    assert replies[0].version > before


async def test_cases_83_and_84_a_refused_refresh_backs_off_and_warns_once(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    driver.endpoint.status, driver.endpoint.answer = 400, {"error": "invalid_grant"}
    with capture_logs() as logs:
        reply = await ask(service)
    assert (reply.source, reply.token) == ("none", None)
    (warning,) = warnings(logs)
    assert "invalid_grant" in warning["event"]
    assert "hogsend connect posthog" in warning["event"]

    with capture_logs() as logs:
        assert (await ask(service)).source == "none"
        driver.clock.advance(59)
        assert (await ask(service)).source == "none"
    assert len(driver.endpoint.asked) == 1
    assert warnings(logs) == []

    driver.clock.advance(1)
    with capture_logs() as logs:
        await ask(service)
        await ask(service)
    assert len(driver.endpoint.asked) == 2
    assert warnings(logs) == []
    assert [entry for entry in logs if entry["log_level"] == "debug"]

    driver.clock.advance(60)
    driver.endpoint.status, driver.endpoint.answer = 200, {"access_token": "a", "expires_in": 90}
    assert (await ask(service)).token == "a"
    driver.clock.advance(90)
    driver.endpoint.status, driver.endpoint.answer = 503, b"down"
    with capture_logs() as logs:
        await ask(service)
    (warning,) = warnings(logs)
    assert "HTTP 503" in warning["event"]


async def test_case_85_the_old_token_is_used_until_it_really_expires(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.status = 500
    assert (await ask(service)).token == "pha_0"
    driver.clock.advance(30)
    assert (await ask(service)).source == "none"


async def test_case_85_then_the_personal_key_is_used(driver: Driver) -> None:
    async with driver.replica(personal_key="phx_fallback") as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=30))
        driver.endpoint.status = 500
        assert (await ask(service)).source == "oauth"
        driver.clock.advance(31)
        reply = await ask(service)
        assert (reply.source, reply.token) == ("personal_key", "phx_fallback")


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


async def test_case_87_a_siblings_refresh_is_adopted(driver: Driver, service: Credentials) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    async with driver.replica() as sibling:
        assert (await ask(sibling)).token == "pha_1"
    assert (await ask(service)).token == "pha_1"
    assert len(driver.endpoint.asked) == 1


@pytest.mark.parametrize(
    "payload", [b'{"accessToken":"pha_0"}', b"[]", b"not json", b'{"accessToken":5}']
)
async def test_case_88_a_malformed_payload_is_no_credential(
    driver: Driver, service: Credentials, payload: bytes
) -> None:
    await service.store.save("posthog", "oauth", service.sealer._sealer.seal(payload))
    with capture_logs() as logs:
        assert (await ask(service)).source == "none"
        assert (await ask(service)).source == "none"
    assert len(warnings(logs)) == 1
    assert driver.endpoint.asked == []


async def test_case_89_an_undecryptable_row_is_no_credential(driver: Driver) -> None:
    async with driver.replica(secret="old") as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    async with driver.replica(secret="new") as service:
        with capture_logs() as logs:
            assert (await ask(service)).source == "none"
    (warning,) = warnings(logs)
    assert "sealed with another secret" in warning["reason"]


async def test_case_90_a_refreshed_token_that_cannot_be_stored_is_used_and_offered_again(
    driver: Driver, service: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    save = RefreshLock.save

    async def broken(*_: Any) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(RefreshLock, "save", broken)
    assert (await ask(service)).token == "pha_1"
    assert (await ask(service)).token == "pha_1"
    assert (await stored(service)) == driver.grant(left=-5)
    monkeypatch.setattr(RefreshLock, "save", save)
    await service.refresher.refresh_due()
    grant = await stored(service)
    assert grant is not None
    assert (grant.access_token, grant.refresh_token) == ("pha_1", "phr_1")
    assert len(driver.endpoint.asked) == 1


async def test_case_91_starting_up_does_not_refresh(driver: Driver, service: Credentials) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=-5))
    await service.refresher.repeat_interrupted()
    assert (await service.credentials.status("posthog")).oauth == "present"
    assert driver.endpoint.asked == []


async def test_the_token_travels_over_the_bus(
    servers: Servers, driver: Driver, service: Credentials, cache: CountingCache
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=59))
    reply = await cache.ask()
    assert (reply.source, reply.token) == ("oauth", "pha_1")
    assert reply.expires_at == driver.clock.now + timedelta(hours=1)
    assert CREDENTIALS_TOKEN.deadline > 2 * 10
