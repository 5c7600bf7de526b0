"""A refreshed grant that cannot be stored is used meanwhile, and stored later."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import Unavailable
from services.credentials.refresh_schedule import GRACE
from tests.unit.credentials.conftest import Driver, Replica
from tests.unit.credentials.fakes import ReuseDetectingEndpoint
from tests.unit.credentials.refreshing import start_refresh, warnings


async def test_case_90_a_refreshed_token_that_cannot_be_stored_is_used_and_saved_later(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=-5))
    driver.store.refuses_grants = True
    with capture_logs() as logs:
        assert (await replica.token()).token == "pha_1"
    assert "kept in memory" in warnings(logs)[0]["event"]
    assert (await replica.token()).token == "pha_1"
    assert await driver.stored() == driver.grant(left=-5)
    driver.store.refuses_grants = False
    await replica.refresher.refresh_due()
    grant = await driver.stored()
    assert grant is not None
    assert (grant.access_token, grant.refresh_token) == ("pha_1", "phr_1")
    assert driver.endpoint.requests == ["phr_0"]
    assert replica.refresher.pending("posthog") is None


async def test_a_database_failure_during_the_refresh_does_not_lose_the_token(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    pending = await start_refresh(driver, replica)
    driver.store.available = False
    driver.endpoint.responding.set()
    assert (await pending).token == "pha_1"
    # Nothing can be read, so the token in memory is used until it expires.
    assert (await replica.token()).token == "pha_1"
    driver.clock.advance(3600)
    with pytest.raises(Unavailable):
        await replica.token()
    driver.store.available = True
    await replica.refresher.repeat_interrupted()
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"


async def test_another_replica_does_not_refresh_while_a_grant_waits_to_be_stored(
    driver: Driver,
) -> None:
    """After 120 s, a use of the previous token would make PostHog revoke the grant."""
    posthog = driver.endpoint = ReuseDetectingEndpoint(driver.clock)
    await driver.put(driver.grant(left=30))
    holder, sibling = driver.replica(), driver.replica()
    driver.store.refuses_grants = True
    assert (await holder.token()).token == "pha_1"
    driver.clock.advance(GRACE.total_seconds())
    driver.store.refuses_grants = False
    # The other replica is the first to notice that PostgreSQL accepts writes again.
    for _ in range(3):
        await sibling.refresher.refresh_due()
    await sibling.refresher.repeat_interrupted()
    assert (await sibling.credentials.status("posthog")).refresh_error is not None
    await holder.refresher.refresh_due()
    grant = await driver.stored()
    assert grant is not None
    assert grant.refresh_token == "phr_1"
    assert (len(posthog.requests), posthog.revoked) == (1, False)
    assert (await sibling.token()).token == "pha_1"


async def test_a_replaced_grant_takes_precedence_over_an_unsaved_one(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.store.refuses_grants = True
    assert (await replica.token()).token == "pha_1"
    driver.store.refuses_grants = False
    again = driver.grant(left=3600, access_token="pha_again", refresh_token="phr_again")
    await driver.put(again)
    assert (await replica.token()).token == "pha_again"
    assert await driver.stored() == again
    assert replica.refresher.pending("posthog") is None


async def test_a_replaced_grant_that_is_due_is_refreshed_in_the_same_attempt(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.store.refuses_grants = True
    assert (await replica.token()).token == "pha_1"
    driver.store.refuses_grants = False
    await driver.put(driver.grant(left=-5, refresh_token="phr_again"))
    assert (await replica.token()).token == "pha_2"
    assert driver.endpoint.requests == ["phr_0", "phr_again"]


async def test_a_grant_that_could_not_be_stored_is_dropped_with_a_deleted_credential(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.store.refuses_grants = True
    await replica.token()
    driver.store.refuses_grants = False
    await driver.store.delete("posthog")
    assert await replica.refresher.refresh("posthog") is None
    assert replica.refresher.pending("posthog") is None
