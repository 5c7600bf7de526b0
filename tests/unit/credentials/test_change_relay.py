"""The outbox: every committed change is published, in order, however often publishing fails."""

from __future__ import annotations

import asyncio

import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from tests.unit.credentials.conftest import Driver, Replica


def published(driver: Driver) -> list[tuple[str, int]]:
    return [(change.provider, change.version) for change in driver.stream.changes]


async def test_a_change_is_published_once(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=3600))
    await replica.relay.relay("posthog")
    await replica.relay.relay("posthog")
    await replica.relay.relay_pending()
    await replica.relay.relay("unknown")
    assert published(driver) == [("posthog", 1)]


async def test_a_change_describes_the_stored_rows_without_secrets(
    driver: Driver, replica: Replica
) -> None:
    grant = driver.grant(left=3600)
    await driver.put(grant)
    await replica.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    await replica.relay.relay("posthog")
    (change,) = driver.stream.changes
    assert (change.change, change.kinds, change.changed_kinds) == (
        "stored",
        ["oauth", "derived"],
        ["derived"],
    )
    assert (change.scopes, change.expires_at) == (grant.scopes, grant.expires_at)
    for secret in (grant.access_token, grant.refresh_token, "minted"):
        assert secret not in repr(change)


async def test_a_deletion_is_published(driver: Driver, replica: Replica) -> None:
    await driver.put(driver.grant(left=3600))
    await replica.relay.relay("posthog")
    await replica.credentials.delete("posthog")
    await replica.relay.relay("posthog")
    deleted = driver.stream.changes[-1]
    assert (deleted.change, deleted.kinds, deleted.changed_kinds) == ("deleted", [], ["oauth"])
    assert (deleted.scopes, deleted.expires_at) == ([], None)


async def test_a_grant_that_cannot_be_read_is_published_without_its_scopes(driver: Driver) -> None:
    await driver.put(driver.grant(left=3600))
    await driver.replica(secret="new").relay.relay("posthog")
    (change,) = driver.stream.changes
    assert (change.kinds, change.scopes, change.expires_at) == (["oauth"], [], None)


async def test_a_change_stays_pending_until_it_is_published(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    driver.stream.available = False
    for _ in range(2):
        with pytest.raises(Unavailable):
            await replica.relay.relay("posthog")
    with pytest.raises(Unavailable):
        await replica.relay.relay_pending()
    driver.stream.available = True
    await replica.relay.relay_pending()
    assert published(driver) == [("posthog", 1)]


async def test_replicas_publish_a_change_once(driver: Driver) -> None:
    await driver.put(driver.grant(left=3600))
    await asyncio.gather(*(driver.replica().relay.relay("posthog") for _ in range(3)))
    assert published(driver) == [("posthog", 1)]


async def test_a_newer_change_is_not_published_before_an_older_one(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    driver.stream.accepting.clear()
    first = asyncio.create_task(replica.relay.relay("posthog"))
    await driver.stream.arrived.wait()
    await driver.put(driver.grant(left=7200))
    second = asyncio.create_task(driver.replica().relay.relay("posthog"))
    driver.stream.accepting.set()
    await asyncio.gather(first, second)
    assert published(driver) == [("posthog", 1), ("posthog", 2)]


async def test_the_state_of_every_provider_is_published_again_after_the_stream_lost_it(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    await driver.store.save("other", "derived", driver.sealer.seal(DerivedPayload(project_id="7")))
    await replica.relay.relay_pending()
    await replica.relay.relay_pending()
    assert published(driver) == [("posthog", 1), ("other", 1)]
    # JetStream lost its disk.
    driver.stream.changes.clear()
    await replica.relay.relay_pending()
    assert published(driver) == [("posthog", 1), ("other", 1)]


async def test_a_change_that_follows_a_change_of_the_same_process_needs_no_lock(
    driver: Driver, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600))

    def locked(_provider: str) -> None:
        raise AssertionError("the row was locked")

    monkeypatch.setattr(driver.store, "pending_change", locked)
    await replica.credentials.put_oauth("posthog", driver.grant(left=7200))
    await replica.relay.finish()
    assert published(driver) == [("posthog", 1), ("posthog", 2)]
    assert await driver.store.pending_changes() == []
    assert driver.stream.changes[-1].expires_at == driver.grant(left=7200).expires_at


async def test_a_change_that_cannot_be_marked_as_published_is_published_again(
    driver: Driver, replica: Replica
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
    driver.stream.accepting.clear()
    driver.stream.arrived.clear()
    storing = asyncio.create_task(replica.credentials.put_oauth("posthog", driver.grant(left=7200)))
    await driver.stream.arrived.wait()
    driver.store.available = False
    driver.stream.accepting.set()
    failures = metrics.FAILURES.labels("credential_change", Unavailable.code)._value
    before = failures.get()
    await storing
    await replica.relay.finish()
    assert failures.get() == before + 1
    driver.store.available = True
    assert await driver.store.pending_changes() == ["posthog"]
    await replica.relay.relay_pending()
    assert published(driver) == [("posthog", 1), ("posthog", 2), ("posthog", 2)]


async def test_concurrent_changes_are_published_in_order(driver: Driver, replica: Replica) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
    replicas = [replica, driver.replica(), replica, driver.replica()]
    await asyncio.gather(
        *(
            each.credentials.put_oauth("posthog", driver.grant(left=3600 + number))
            for number, each in enumerate(replicas)
        )
    )
    versions = [change.version for change in driver.stream.changes]
    assert versions == sorted(versions)
    assert versions[-1] == 5
