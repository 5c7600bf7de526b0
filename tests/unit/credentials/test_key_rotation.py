"""Rotating `BETTER_AUTH_SECRET` without losing sealed credentials."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import CannotUnseal, Unavailable
from tests.unit.credentials.conftest import Driver, Replica


async def test_a_previous_secret_unseals_and_its_rows_move_to_the_current_one(
    driver: Driver,
) -> None:
    grant = driver.grant(left=3600)
    old = driver.replica(secret="old")
    await old.credentials.put_oauth("posthog", grant)
    await old.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    before = await driver.snapshot()

    rotating = driver.replica(secret="new", previous=["older", "old"])
    assert (await rotating.token()).token == "pha_0"
    assert await rotating.rotation.rotate() == 2
    assert await rotating.rotation.rotate() == 0

    new = driver.replica(secret="new")
    assert (await new.token()).token == "pha_0"
    derived = await new.credentials.derived("posthog")
    assert derived.payload == DerivedPayload(webhook_secret="minted")
    after = await driver.snapshot()
    # Subscribers and refreshes are not affected.
    assert after.version == before.version
    assert after.rows["oauth"].updated_at == before.rows["oauth"].updated_at
    assert after.rows["oauth"].payload != before.rows["oauth"].payload


async def test_two_replicas_change_the_secret_twice_and_read_everything_throughout(
    driver: Driver,
) -> None:
    """The steps of docs/rotation.md, with one replica restarted after the other in each."""

    async def check_all_read(*replicas: Replica) -> None:
        for replica in replicas:
            # Each replica seals, and every other replica unseals.
            await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
            derived = DerivedPayload(webhook_secret="minted")
            await replica.credentials.put_derived("posthog", derived)
            await replica.rotation.rotate()
            for other in replicas:
                assert (await other.token()).token == "pha_0"
                assert (await other.credentials.derived("posthog")).payload == derived
                assert (await other.credentials.status("posthog")).webhook_secret == "present"

    replicas = [driver.replica("first"), driver.replica("first")]
    for old, new in (("first", "second"), ("second", "third")):
        for configured in ((old, [new]), (new, [old]), (new, [])):
            for number in range(len(replicas)):
                replicas[number] = driver.replica(*configured)
                await check_all_read(*replicas)
    with pytest.raises(CannotUnseal):
        await driver.replica("first").credentials.meta("posthog")


async def test_a_row_that_no_secret_unseals_is_not_changed(driver: Driver) -> None:
    await driver.replica(secret="lost").credentials.put_oauth("posthog", driver.grant(left=3600))
    await driver.replica(secret="old").credentials.put_derived("posthog", DerivedPayload())
    before = await driver.snapshot()
    rotating = driver.replica(secret="new", previous=["old"])
    assert await rotating.rotation.rotate() == 1
    assert (await driver.snapshot()).rows["oauth"] == before.rows["oauth"]
    assert (await rotating.credentials.status("posthog")).oauth == "unreadable"


async def test_a_row_that_changed_during_a_rotation_is_not_overwritten(driver: Driver) -> None:
    await driver.replica(secret="old").credentials.put_oauth("posthog", driver.grant(left=30))
    ((provider, row),) = await driver.store.all_rows()
    current = driver.replica(secret="new", previous=["old"])
    await current.credentials.put_oauth("posthog", driver.grant(left=3600))
    await driver.store.reseal(provider, row, "an outdated payload")
    assert (await current.token()).expires_at == driver.grant(left=3600).expires_at


async def test_rotation_without_the_database_is_unavailable(driver: Driver) -> None:
    driver.store.available = False
    with pytest.raises(Unavailable):
        await driver.replica().rotation.rotate()
