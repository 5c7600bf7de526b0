"""`posthog()` and `when()`, which correspond to the seed's `getPostHog()` and `ctx.when`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from hogsend import Client, InvalidRequest, PostHog
from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capabilities, Capability
from hogsend.contract.errors import Unavailable
from hogsend.contract.persons import ANALYTICS_TIMEZONE, GetTimezone, Timezone
from tests.unit.analytics.fakes import FakeLink

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def client_with_capability(state: Literal["on", "off", "unknown"]) -> Client:
    link = FakeLink()
    row = Capability(name="eventCapture", state=state, reason="set by the test")
    link.reply_with(ANALYTICS_CAPABILITIES, lambda _request: Capabilities([row]))
    return Client(link)


async def test_posthog_returns_none_without_a_project_key() -> None:
    assert await client_with_capability("off").posthog() is None


@pytest.mark.parametrize("state", ["on", "unknown"])
async def test_posthog_returns_a_client_that_captures_and_reads_flags_with_a_project_key(
    state: Literal["on", "unknown"],
) -> None:
    client = client_with_capability(state)
    posthog = await client.posthog()
    assert isinstance(posthog, PostHog)
    assert (posthog.capture, posthog.flags) == (client.capture, client.flags)


async def test_posthog_returns_a_client_while_analytics_is_unavailable() -> None:
    link = FakeLink()

    def unavailable(_request: Any) -> Capabilities:
        raise Unavailable("analytics is not running")

    link.reply_with(ANALYTICS_CAPABILITIES, unavailable)
    assert await Client(link).posthog() is not None


def client_with_timezone(timezone: str) -> tuple[Client, list[GetTimezone]]:
    link, requests = FakeLink(), list[GetTimezone]()

    def zone(request: GetTimezone) -> Timezone:
        requests.append(request)
        return Timezone(timezone, "posthog_geoip")

    link.reply_with(ANALYTICS_TIMEZONE, zone)
    return Client(link), requests


async def test_when_returns_the_next_moment_in_the_time_zone_of_the_person() -> None:
    client, requests = client_with_timezone("Asia/Tokyo")
    moment = await client.when("u_42", weekday="monday", hour=9, after=MONDAY, default="UTC")
    assert moment.at.isoformat() == "2026-11-30T09:00:00+09:00"
    assert (moment.timezone, moment.source) == ("Asia/Tokyo", "posthog_geoip")
    assert requests == [GetTimezone("u_42", None, "UTC")]


@pytest.mark.parametrize(
    "arguments",
    [
        {"hour": 24},
        {"hour": -1},
        {"hour": 9, "minute": 60},
        {"hour": "nine"},
        {"hour": 9, "weekday": "someday"},
        {"hour": 9, "after": datetime(2026, 1, 1)},  # noqa: DTZ001 - the missing offset is tested
        {"hour": 9, "after": datetime.max.replace(tzinfo=UTC)},
    ],
)
async def test_an_impossible_time_is_an_invalid_request(arguments: dict[str, Any]) -> None:
    client, _ = client_with_timezone("Pacific/Auckland")
    with pytest.raises(InvalidRequest):
        await client.when("u_42", **arguments)
