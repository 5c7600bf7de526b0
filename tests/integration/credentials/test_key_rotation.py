"""Rotating `BETTER_AUTH_SECRET` without losing what it sealed."""

from __future__ import annotations

from hogsend.contract.credentials import DerivedPayload
from services.credentials.key_rotation import KeyRotation
from services.credentials.sealing import Sealer
from tests.integration.credentials.conftest import Driver, ask, stored


async def test_a_previous_secret_unseals_and_its_rows_move_to_the_current_one(
    driver: Driver,
) -> None:
    grant = driver.grant(left=3600)
    async with driver.replica(secret="old") as service:
        await service.credentials.put_oauth("posthog", grant)
        await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
        before = await service.store.load("posthog")
    async with driver.replica(secret="new", previous=["older", "old"]) as service:
        assert (await ask(service)).token == "pha_0"
        resealing = KeyRotation(service.store, Sealer("new", ["older", "old"]))
        assert await resealing.rotate() == 2
        assert await resealing.rotate() == 0
    async with driver.replica(secret="new") as service:
        after = await service.store.load("posthog")
        assert await stored(service) == grant
        derived = (await service.credentials.derived("posthog")).payload
    assert derived == DerivedPayload(webhook_secret="minted")
    # To everybody else nothing has happened.
    assert after.version == before.version
    assert after.rows["oauth"].updated_at == before.rows["oauth"].updated_at
    assert after.rows["oauth"].payload != before.rows["oauth"].payload


async def test_a_refreshed_token_survives_resealing_under_its_feet(driver: Driver) -> None:
    async with driver.replica(secret="old") as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=30))
    async with driver.replica(secret="new", previous=["old"]) as service:
        async with service.store.refresh_lock("posthog") as lock:
            row = (await lock.load()).rows["oauth"]
            assert await KeyRotation(service.store, Sealer("new", ["old"])).rotate() == 1
            assert await lock.save(row, service.sealer.seal(driver.grant(left=3600)))
        assert await stored(service) == driver.grant(left=3600)


async def test_a_row_no_secret_reads_is_left_as_it_is(driver: Driver) -> None:
    async with driver.replica(secret="lost") as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    async with driver.replica(secret="new", previous=["old"]) as service:
        before = await service.store.load("posthog")
        assert await KeyRotation(service.store, Sealer("new", ["old"])).rotate() == 0
        assert await service.store.load("posthog") == before
        assert (await service.credentials.status("posthog")).oauth == "unreadable"
