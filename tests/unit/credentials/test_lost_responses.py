"""A response of the token endpoint that is lost is requested again, within its grace period."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import token_digest as digest
from services.credentials.refresh_schedule import GRACE, LOST_BACK_OFF
from services.credentials.token_endpoint import RefreshFailed
from tests.unit.credentials.conftest import Driver, Replica
from tests.unit.credentials.fakes import FakeTokenEndpoint, ReuseDetectingEndpoint
from tests.unit.credentials.refreshing import check_until, crash, start_refresh


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
async def test_consecutive_lost_responses_do_not_disconnect(driver: Driver, lost: int) -> None:
    """PostHog rotated at the first attempt, and would revoke the grant for a use after 120 s."""
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    posthog.losing = lost
    replicas = [driver.replica(), driver.replica(), driver.replica()]
    await check_until(driver, replicas, posthog.requests, lost + 1)
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"
    assert not posthog.revoked


async def test_an_outage_in_which_every_response_is_lost_ends_connected(driver: Driver) -> None:
    """Several attempts follow within the 120 s after any attempt that reached PostHog."""
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    replicas = [driver.replica(), driver.replica()]
    driver.endpoint = FakeTokenEndpoint()
    driver.endpoint.failure = RefreshFailed("no answer (ReadTimeout)", response_lost=True)
    without_responses = [driver.replica(), driver.replica()]
    await check_until(driver, without_responses, driver.endpoint.requests, 20)
    posthog.losing = 2
    await check_until(driver, replicas, posthog.requests, 3)
    assert not posthog.revoked
    assert not (await replicas[0].credentials.status("posthog")).needs_reconnect


@pytest.mark.parametrize(
    "refusal",
    [
        RefreshFailed("HTTP 503"),
        RefreshFailed("HTTP 429", retry_after=3600),
        RefreshFailed("no answer (ConnectError)"),
    ],
    ids=str,
)
async def test_refusals_after_a_lost_response_are_retried_within_the_grace_period(
    driver: Driver, refusal: RefreshFailed
) -> None:
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    posthog.losing = 1
    replicas = [driver.replica(), driver.replica()]
    await check_until(driver, replicas, posthog.requests, 1)
    posthog.failure = refusal
    await check_until(driver, replicas, posthog.requests, 6)
    posthog.failure = None
    await check_until(driver, replicas, posthog.requests, 7)
    assert not posthog.revoked
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"


async def test_after_the_grace_period_a_refusal_has_its_usual_back_off(driver: Driver) -> None:
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    posthog.losing = 1
    replica = driver.replica()
    await replica.refresher.refresh_due()
    posthog.failure = RefreshFailed("HTTP 503")
    driver.clock.advance(GRACE.total_seconds())
    await replica.refresher.refresh_due()
    assert len(posthog.requests) == 2
    driver.clock.advance(59)
    await replica.refresher.refresh_due()
    assert len(posthog.requests) == 2


async def test_the_grace_period_starts_with_the_first_lost_response(driver: Driver) -> None:
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    posthog.losing = 1
    replica = driver.replica()
    await replica.refresher.refresh_due()
    posthog.failure = RefreshFailed("HTTP 429", retry_after=3600)
    for _ in range(GRACE // LOST_BACK_OFF + 1):
        driver.clock.advance(LOST_BACK_OFF.total_seconds())
        await replica.refresher.refresh_due()
    count = len(posthog.requests)
    driver.clock.advance(3000)
    await replica.refresher.refresh_due()
    assert len(posthog.requests) == count


async def test_a_crash_among_lost_responses_does_not_disconnect(driver: Driver) -> None:
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    posthog.losing = 2
    replicas = [driver.replica(), driver.replica()]
    await check_until(driver, replicas, posthog.requests, 1)
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    posthog.arrived.clear()
    await crash(replicas[0], await start_refresh(driver, replicas[0]))
    posthog.responding.set()
    # The remaining replica repeats the interrupted refresh at once, then the lost one.
    await replicas[1].refresher.refresh_due()
    assert len(posthog.requests) == 3
    await check_until(driver, [replicas[1]], posthog.requests, 4)
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"
    assert not posthog.revoked


async def test_a_refresh_interrupted_soon_after_lost_responses_is_repeated_at_once(
    driver: Driver,
) -> None:
    """The last lost response is older than its own back-off, but not than that of a refusal."""
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("no answer (ReadTimeout)", response_lost=True)
    replica = driver.replica()
    await replica.refresher.refresh_due()
    driver.clock.advance(GRACE.total_seconds() - 1)
    await replica.refresher.refresh_due()
    assert len(driver.endpoint.requests) == 2
    driver.endpoint.failure = None
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    driver.endpoint.arrived.clear()
    await crash(replica, await start_refresh(driver, replica))
    driver.endpoint.responding.set()
    await driver.replica().refresher.refresh_due()
    assert len(driver.endpoint.requests) == 4


async def test_a_lost_response_is_not_retried_before_its_back_off(driver: Driver) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("no answer (ReadTimeout)", response_lost=True)
    replicas = [driver.replica(), driver.replica()]
    for _ in range(3):
        await replicas[0].token(digest("pha_0"))
        await replicas[1].refresher.refresh_due()
        await driver.replica().refresher.repeat_interrupted()
    assert len(driver.endpoint.requests) == 1
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    # Even though the access token has not expired: PostHog may have revoked it.
    driver.endpoint.failure = None
    await replicas[1].refresher.refresh_due()
    assert len(driver.endpoint.requests) == 2


async def test_a_lost_response_is_retried_although_the_token_is_not_due(driver: Driver) -> None:
    """PostHog rejected the access token, and rotated the refresh token in the lost attempt."""
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=3600))
    posthog.losing = 1
    replica = driver.replica()
    await replica.token(digest("pha_0"))
    await check_until(driver, [replica], posthog.requests, 2)
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"
    assert not posthog.revoked


async def test_a_refused_grant_ends_the_retries_of_a_lost_response(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("no answer (ReadTimeout)", response_lost=True)
    await replica.token()
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    driver.endpoint.failure = RefreshFailed("invalid_grant")
    await replica.token()
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    await replica.token()
    assert len(driver.endpoint.requests) == 2
