"""Refreshing: one attempt at a time, at most one a minute after a failure, and no token lost.

Acceptance cases 78 to 91 that are about the refresh itself.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import stamina
from structlog.testing import capture_logs

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.credentials import token_digest as digest
from hogsend.contract.errors import Unavailable
from services.credentials import refresh as refresh_module
from services.credentials.refresh import Refresher
from services.credentials.refresh_schedule import BACK_OFF, GRACE, IDLE, LOST_BACK_OFF
from services.credentials.token_endpoint import RefreshFailed
from tests.unit.credentials.conftest import Driver, Replica
from tests.unit.credentials.refreshing import crash, start_refresh, warnings
from tests.virtual_time import now, on_virtual_time


@pytest.mark.parametrize(("left", "refreshed"), [(61, False), (60, True), (59, True)])
async def test_case_78_a_refresh_is_due_sixty_seconds_before_expiry(
    driver: Driver, replica: Replica, left: float, refreshed: bool
) -> None:
    await driver.put(driver.grant(left=left))
    await replica.refresher.refresh_due()
    grant = await driver.stored()
    assert grant is not None
    assert grant.access_token == ("pha_1" if refreshed else "pha_0")
    assert (await replica.token()).token == grant.access_token
    assert len(driver.endpoint.requests) == refreshed


async def test_a_grant_that_expired_at_the_earliest_date_is_refreshed(
    driver: Driver, replica: Replica
) -> None:
    """Programs in Go write the earliest date for an unknown time."""
    first = datetime(1, 1, 1, tzinfo=UTC)
    await driver.put(msgspec.structs.replace(driver.grant(left=0), expires_at=first))
    await replica.refresher.refresh_due()
    assert (await replica.token()).token == "pha_1"


async def test_case_82_two_callers_share_one_attempt(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=-5))
    before = (await driver.snapshot()).version
    replies = await asyncio.gather(replica.token(), replica.token())
    assert {reply.token for reply in replies} == {"pha_1"}
    assert len(driver.endpoint.requests) == 1
    assert driver.store.lock_requests == 1
    assert {reply.version for reply in replies} == {before + 1}


async def test_an_attempt_continues_when_its_caller_is_cancelled(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    pending = await start_refresh(driver, replica)
    pending.cancel()
    finishing = asyncio.create_task(replica.refresher.finish())
    await asyncio.wait({pending})
    driver.endpoint.responding.set()
    await finishing
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"


async def test_concurrent_replicas_refresh_once(driver: Driver) -> None:
    await driver.put(driver.grant(left=30))
    replies = await asyncio.gather(*(driver.replica().token() for _ in range(10)))
    assert {reply.token for reply in replies} == {"pha_1"}
    assert driver.endpoint.requests == ["phr_0"]


async def test_cases_83_and_84_a_refused_refresh_backs_off_and_warns_once(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=-5))
    driver.endpoint.failure = RefreshFailed("invalid_grant")
    with capture_logs() as logs:
        reply = await replica.token()
    assert (reply.source, reply.token) == ("none", None)
    (warning,) = warnings(logs)
    assert "invalid_grant" in warning["event"]
    assert "hogsend connect posthog" in warning["event"]

    with capture_logs() as logs:
        assert (await replica.token()).source == "none"
        driver.clock.advance(59)
        assert (await replica.token()).source == "none"
    assert len(driver.endpoint.requests) == 1
    assert warnings(logs) == []

    driver.clock.advance(1)
    with capture_logs() as logs:
        await replica.token()
        await replica.token()
    assert len(driver.endpoint.requests) == 2
    assert warnings(logs) == []
    assert [entry for entry in logs if entry["log_level"] == "debug"]

    driver.clock.advance(60)
    driver.endpoint.failure = None
    assert (await replica.token()).token == "pha_3"
    driver.clock.advance(3600)
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    with capture_logs() as logs:
        await replica.token()
    (warning,) = warnings(logs)
    assert "HTTP 503" in warning["event"]


@pytest.mark.parametrize("lifetime", [59, 1, 0])
async def test_a_short_lived_token_is_used_until_it_expires_and_refreshed_once_a_minute(
    driver: Driver, lifetime: int
) -> None:
    await driver.put(driver.grant(left=-5))
    driver.endpoint.lifetime = timedelta(seconds=lifetime)
    replicas = [driver.replica(), driver.replica()]
    for second in range(60):
        for replica in replicas:
            await replica.refresher.refresh_due()
            token = (await replica.token()).token
            assert token == ("pha_1" if second < lifetime else None)
        driver.clock.advance(1)
    assert driver.endpoint.requests == ["phr_0"]
    driver.clock.advance(1)
    await replicas[0].refresher.refresh_due()
    await replicas[1].token()
    assert driver.endpoint.requests == ["phr_0", "phr_1"]


async def test_a_posthog_that_rejects_every_token_gets_one_refresh_a_minute(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    rejected = "pha_0"
    for _ in range(20):
        token = (await replica.token(digest(rejected))).token
        rejected = token or rejected
    assert driver.endpoint.requests == ["phr_0"]
    driver.clock.advance(61)
    assert (await replica.token(digest("pha_1"))).token == "pha_2"


async def test_replicas_back_off_together(driver: Driver) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    for _ in range(3):
        replica = driver.replica()
        await replica.token(digest("pha_0"))
        await replica.refresher.refresh_due()
    assert len(driver.endpoint.requests) == 1
    # During the back-off, the periodic check does not even request the lock.
    assert driver.store.lock_requests == 3


async def test_a_refresh_that_a_crash_interrupted_is_repeated_at_once(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    await crash(replica, await start_refresh(driver, replica))
    driver.endpoint.responding.set()
    await driver.replica().refresher.repeat_interrupted()
    assert driver.endpoint.requests == ["phr_0", "phr_0"]
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_2"


async def test_an_interrupted_refresh_of_a_refused_grant_is_not_repeated_at_the_start(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    driver.endpoint.failure = RefreshFailed("invalid_grant")
    await replica.token(digest("pha_0"))
    driver.clock.advance(61)
    driver.endpoint.arrived.clear()
    await crash(replica, await start_refresh(driver, replica, digest("pha_0")))
    driver.endpoint.responding.set()
    count = len(driver.endpoint.requests)
    await driver.replica().refresher.repeat_interrupted()
    assert len(driver.endpoint.requests) == count


async def test_an_interrupted_refresh_is_repeated_although_the_token_is_not_due(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    await crash(replica, await start_refresh(driver, replica, digest("pha_0")))
    driver.endpoint.responding.set()
    await driver.replica().refresher.refresh_due()
    assert driver.endpoint.requests == ["phr_0", "phr_0"]


async def test_a_start_by_a_clock_that_is_ahead_does_not_end_the_back_off(
    driver: Driver, replica: Replica
) -> None:
    """Otherwise every request for a token would refresh until this replica's clock caught up."""
    driver.clock.advance(300)
    await driver.put(driver.grant(left=-300))
    await crash(replica, await start_refresh(driver, replica))
    driver.clock.advance(-300)
    driver.endpoint.responding.set()
    driver.endpoint.failure = RefreshFailed("no answer (ConnectError)")
    other = driver.replica()
    await other.refresher.repeat_interrupted()
    count = len(driver.endpoint.requests)
    assert count == 2
    for _ in range(3):
        await other.token()
        await other.refresher.refresh_due()
    assert len(driver.endpoint.requests) == count
    driver.clock.advance(LOST_BACK_OFF.total_seconds())
    await other.refresher.refresh_due()
    assert len(driver.endpoint.requests) == count + 1


async def test_a_refresh_that_failed_was_not_interrupted(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    await replica.token()
    driver.clock.advance(60)
    await replica.refresher.repeat_interrupted()
    assert len(driver.endpoint.requests) == 1
    await replica.refresher.refresh_due()
    assert len(driver.endpoint.requests) == 2


async def test_a_refused_refresh_is_not_repeated_while_the_token_is_not_due(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    await replica.token(digest("pha_0"))
    driver.clock.advance(600)
    await replica.refresher.refresh_due()
    await replica.token()
    assert len(driver.endpoint.requests) == 1


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_client", "unauthorized_client"])
async def test_a_refused_grant_needs_a_reconnect_and_is_not_retried(
    driver: Driver, replica: Replica, code: str
) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed(code)
    await replica.token()
    status = await replica.credentials.status("posthog")
    assert (status.needs_reconnect, status.refresh_error) == (True, code)
    assert (await replica.credentials.meta("posthog")).needs_reconnect
    driver.clock.advance(3600)
    await replica.refresher.refresh_due()
    await replica.refresher.repeat_interrupted()
    assert len(driver.endpoint.requests) == 1

    await driver.put(driver.grant(left=30))
    assert not (await replica.credentials.status("posthog")).needs_reconnect
    driver.endpoint.failure = None
    await replica.refresher.refresh_due()
    assert len(driver.endpoint.requests) == 2


async def test_another_failure_does_not_need_a_reconnect(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("temporarily_unavailable")
    await replica.token()
    status = await replica.credentials.status("posthog")
    assert (status.needs_reconnect, status.refresh_error) == (False, "temporarily_unavailable")
    assert not (await replica.credentials.meta("posthog")).needs_reconnect


async def test_connecting_again_takes_precedence_over_a_running_refresh(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    pending = await start_refresh(driver, replica)
    again = driver.grant(left=3600, access_token="pha_again", refresh_token="phr_again")
    await driver.put(again)
    driver.endpoint.responding.set()
    assert (await pending).token == "pha_again"
    assert await driver.stored() == again
    assert replica.refresher.pending("posthog") is None


async def test_a_credential_deleted_during_its_refresh_stays_deleted(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    pending = await start_refresh(driver, replica)
    await driver.store.delete("posthog")
    driver.endpoint.responding.set()
    assert (await pending).source == "none"
    assert await driver.stored() is None


async def test_storing_a_derived_payload_does_not_lose_the_refreshed_token(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    pending = await start_refresh(driver, replica)
    await replica.credentials.put_derived("posthog", DerivedPayload(webhook_secret="s"))
    driver.endpoint.responding.set()
    assert (await pending).token == "pha_1"
    grant = await driver.stored()
    assert grant is not None
    assert grant.access_token == "pha_1"


async def test_case_87_the_refresh_of_another_replica_is_adopted(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    assert (await driver.replica().token()).token == "pha_1"
    assert (await replica.token()).token == "pha_1"
    assert len(driver.endpoint.requests) == 1


async def test_a_refresh_that_a_crash_interrupted_long_ago_is_repeated_after_a_pause(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    await crash(replica, await start_refresh(driver, replica))
    driver.endpoint.responding.set()
    driver.clock.advance(GRACE.total_seconds())
    other = driver.replica()
    await other.refresher.repeat_interrupted()
    await other.refresher.refresh_due()
    assert driver.endpoint.requests == ["phr_0"]
    driver.clock.advance(BACK_OFF.total_seconds())
    await other.refresher.refresh_due()
    assert driver.endpoint.requests == ["phr_0", "phr_0"]


async def test_an_idle_grant_is_refreshed_before_its_refresh_token_ends(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=timedelta(days=40).total_seconds()))
    driver.clock.advance(IDLE.total_seconds())
    await replica.refresher.refresh_due()
    assert driver.endpoint.requests == []
    driver.clock.advance(1)
    await replica.refresher.refresh_due()
    assert driver.endpoint.requests == ["phr_0"]


async def test_case_91_starting_up_does_not_refresh(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=-5))
    await replica.refresher.repeat_interrupted()
    assert (await replica.credentials.status("posthog")).oauth == "present"
    assert driver.endpoint.requests == []


async def test_grants_are_checked_periodically_after_interrupted_refreshes_are_repeated(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    enough = asyncio.Event()

    async def repeat_interrupted(_: Refresher) -> None:
        calls.append("interrupted")
        if len(calls) == 1:
            raise Unavailable("PostgreSQL is not available")

    async def refresh_due(_: Refresher) -> None:
        calls.append("due")
        if len(calls) == 4:
            enough.set()

    monkeypatch.setattr(Refresher, "repeat_interrupted", repeat_interrupted)
    monkeypatch.setattr(Refresher, "refresh_due", refresh_due)
    monkeypatch.setattr(refresh_module, "CHECK_SECONDS", 0)
    with stamina.set_testing(True, attempts=1000):
        keeping = asyncio.create_task(replica.refresher.keep_fresh())
        await enough.wait()
        keeping.cancel()
        await asyncio.wait({keeping})
    assert calls == ["interrupted", "interrupted", "due", "due"]


@on_virtual_time
async def test_a_due_grant_is_refreshed_one_interval_after_the_start(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[float] = []

    async def refresh_due(_: Refresher) -> None:
        checks.append(now())

    monkeypatch.setattr(Refresher, "refresh_due", refresh_due)
    keeping = asyncio.create_task(replica.refresher.keep_fresh())
    await asyncio.sleep(2.5 * refresh_module.CHECK_SECONDS)
    keeping.cancel()
    assert checks == [refresh_module.CHECK_SECONDS, 2 * refresh_module.CHECK_SECONDS]


async def test_a_refresh_is_published(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=59))
    reply = await replica.token()
    (change,) = driver.stream.changes
    assert (change.change, change.changed_kinds) == ("refreshed", ["oauth"])
    assert change.version == reply.version
    assert change.expires_at == driver.clock.now + timedelta(hours=1)


async def test_a_refresh_that_cannot_be_published_is_still_returned(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=59))
    driver.stream.available = False
    assert (await replica.token()).token == "pha_1"
    driver.stream.available = True
    await replica.relay.relay_pending()
    assert [change.change for change in driver.stream.changes] == ["refreshed"]


@pytest.mark.parametrize(
    ("retry_after", "response_lost", "pause"),
    [
        (None, False, 60),
        (7.0, False, 60),
        (300.0, False, 300),
        # PostHog accepts the previous token for 120 s only.
        (300.0, True, 15),
    ],
)
async def test_a_refresh_backs_off_as_long_as_retry_after(
    driver: Driver, retry_after: float | None, response_lost: bool, pause: int
) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed(
        "HTTP 429", retry_after=retry_after, response_lost=response_lost
    )
    replicas = [driver.replica(), driver.replica()]
    await replicas[0].refresher.refresh_due()
    driver.clock.advance(pause - 1)
    for replica in replicas:
        await replica.refresher.refresh_due()
        await replica.refresher.refresh("posthog")
    assert len(driver.endpoint.requests) == 1
    driver.clock.advance(1)
    await replicas[1].refresher.refresh_due()
    assert len(driver.endpoint.requests) == 2
