"""Rotating `BETTER_AUTH_SECRET` without losing what it sealed."""

from __future__ import annotations

from hogsend.contract.credentials import DerivedPayload
from services.credentials.key_rotation import Resealing
from services.credentials.sealing import Sealer
from tests.integration.credentials.conftest import World, ask, stored


async def test_a_previous_secret_unseals_and_its_rows_move_to_the_current_one(
    world: World,
) -> None:
    grant = world.grant(left=3600)
    async with world.replica(secret="old") as service:
        await service.vault.put_oauth("posthog", grant)
        await service.vault.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
        before = await service.store.load("posthog")
    async with world.replica(secret="new", previous=["older", "old"]) as service:
        assert (await ask(service)).token == "pha_0"
        resealing = Resealing(service.store, Sealer("new", ["older", "old"]))
        assert await resealing.reseal() == 2
        assert await resealing.reseal() == 0
    async with world.replica(secret="new") as service:
        after = await service.store.load("posthog")
        assert await stored(service) == grant
        derived = (await service.vault.derived("posthog")).payload
    assert derived == DerivedPayload(webhook_secret="minted")
    # To everybody else nothing has happened.
    assert after.version == before.version
    assert after.rows["oauth"].updated_at == before.rows["oauth"].updated_at
    assert after.rows["oauth"].payload != before.rows["oauth"].payload


async def test_a_refreshed_token_survives_resealing_under_its_feet(world: World) -> None:
    async with world.replica(secret="old") as service:
        await service.vault.put_oauth("posthog", world.grant(left=30))
    async with world.replica(secret="new", previous=["old"]) as service:
        async with service.store.refreshing("posthog") as turn:
            row = (await turn.load()).rows["oauth"]
            assert await Resealing(service.store, Sealer("new", ["old"])).reseal() == 1
            assert await turn.save(row, service.reader.seal(world.grant(left=3600)))
        assert await stored(service) == world.grant(left=3600)


async def test_a_row_no_secret_reads_is_left_as_it_is(world: World) -> None:
    async with world.replica(secret="lost") as service:
        await service.vault.put_oauth("posthog", world.grant(left=3600))
    async with world.replica(secret="new", previous=["old"]) as service:
        before = await service.store.load("posthog")
        assert await Resealing(service.store, Sealer("new", ["old"])).reseal() == 0
        assert await service.store.load("posthog") == before
        assert (await service.vault.status("posthog")).oauth == "unreadable"
