"""A person is read with the writes that PostHog does not show yet (contract 12.6, ADR 15)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from services.analytics.persons.memory import CACHE_BYTES
from tests.unit.analytics.person_reading import LARGE, PUBLISHED, reading, written
from tests.virtual_time import now, on_virtual_time, settle


@on_virtual_time
async def test_own_writes_are_read_at_once_until_posthog_returns_them() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free", "city": "Rome", "seats": 1}
    assert (await world.persons.properties("u_42"))["plan"] == "free"
    # Regardless of the cache, and although PostHog returns the old values for a while.
    world.write(set={"plan": "pro"}, set_once={"seats": 9, "since": 2026})
    world.write(unset=["city"])
    expected = {"plan": "pro", "seats": 1, "since": 2026}
    assert await world.persons.properties("u_42") == expected
    await asyncio.sleep(301)
    assert await world.persons.properties("u_42") == expected
    # PostHog returns the new values: from now on its values count again.
    world.posthog.persons["u_42"] = dict(expected)
    await asyncio.sleep(301)
    assert await world.persons.properties("u_42") == expected
    world.posthog.persons["u_42"] = {"plan": "team", "city": "Oslo"}
    await asyncio.sleep(301)
    assert await world.persons.properties("u_42") == {"plan": "team", "city": "Oslo"}
    # Another person is not affected.
    world.posthog.persons["u_43"] = {"plan": "free"}
    assert await world.persons.properties("u_43") == {"plan": "free"}


@on_virtual_time
async def test_properties_that_posthog_ignores_are_not_overlaid() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    world.write(set={"plan": "pro"}, process_person_profile=False)
    for name in ("$exception", "$$heatmap", "$ai_generation"):
        event = msgspec.structs.replace(written(set={"plan": "pro"}), event=name)
        world.writes.record(event, PUBLISHED)
    assert await world.persons.properties("u_42") == {"plan": "free"}
    # `$unset` may also be an object, as some libraries send it.
    world.write(unset={"plan": ""}, process_person_profile=True)
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
async def test_a_response_requested_before_a_write_does_not_drop_the_write() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "pro"}
    world.posthog.gate.clear()
    read = asyncio.create_task(world.persons.properties("u_42"))
    await settle()
    await asyncio.sleep(1)
    world.write(set={"plan": "free"})
    world.write(set={"plan": "pro"})
    world.posthog.gate.set()
    assert await read == {"plan": "pro"}
    world.posthog.persons["u_42"] = {"plan": "free"}
    await asyncio.sleep(301)
    assert await world.persons.properties("u_42") == {"plan": "pro"}


@on_virtual_time
async def test_a_write_is_overlaid_for_ten_minutes_at_most() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    world.write(set={"plan": "pro"})
    assert await world.persons.properties("u_42") == {"plan": "pro"}
    await asyncio.sleep(601)
    assert await world.persons.properties("u_42") == {"plan": "free"}


@on_virtual_time
async def test_neither_reads_nor_later_writes_extend_a_write() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    world.write(set={"plan": "pro"})
    # PostHog never returns the value, and the person is read all the time.
    for _ in range(3):
        await asyncio.sleep(190)
        world.write(set={"seen": True})
        assert await world.persons.properties("u_42") == {"plan": "pro", "seen": True}
    await asyncio.sleep(60)
    assert await world.persons.properties("u_42") == {"plan": "free", "seen": True}


@on_virtual_time
async def test_a_write_of_very_many_properties_is_not_overlaid_and_others_are() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {}
    world.write(set={"plan": "pro"})
    world.write(set={f"k{number}": number for number in range(20_000)})
    assert await world.persons.properties("u_42") == {"plan": "pro"}


@on_virtual_time
async def test_values_that_a_too_large_write_replaced_are_not_overlaid() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free", "seats": 1}
    world.write(set={"plan": "pro", "seats": 5, "seen": True})
    world.write(set={"plan": "team", **{f"k{n}": n for n in range(20_000)}}, unset=["seats"])
    world.posthog.persons["u_42"] = {"plan": "team"}
    assert await world.persons.properties("u_42") == {"plan": "team", "seen": True}


@on_virtual_time
async def test_large_writes_to_many_persons_are_overlaid_within_the_memory_limit() -> None:
    world = reading()
    people = [f"u_{number}" for number in range(CACHE_BYTES // LARGE + 1)]
    for id in people:
        world.posthog.persons[id] = {}
        large = msgspec.structs.replace(written(set={"text": "x" * LARGE}), distinct_id=id)
        world.writes.record(large, PUBLISHED)
    first, *_, last = await world.persons.properties_of_all(people, seconds=10)
    assert (first, len(last["text"])) == ({}, LARGE)


@on_virtual_time
async def test_a_removed_property_can_be_set_once() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    world.write(unset=["plan"])
    world.write(set_once={"plan": "team"})
    assert await world.persons.properties("u_42") == {"plan": "team"}


@on_virtual_time
async def test_without_read_access_own_writes_are_not_returned() -> None:
    world = reading()
    world.credentials.token = None
    world.write(set={"plan": "pro"})
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
@pytest.mark.parametrize(
    "properties", [{}, {"set": 1, "set_once": [], "unset": {}}, {"unset": [1, None]}]
)
async def test_an_event_that_sets_nothing_changes_nothing(properties: dict[str, Any]) -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    world.write(**properties)
    assert await world.persons.properties("u_42") == {"plan": "free"}


@on_virtual_time
async def test_a_write_recorded_late_does_not_replace_a_later_one() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    first, second = written(set={"plan": "pro", "seats": 1}), written(set={"plan": "team"})
    world.writes.record(second, PUBLISHED + timedelta(seconds=1))
    for _ in range(2):
        world.writes.record(first, PUBLISHED)
    assert await world.persons.properties("u_42") == {"plan": "team", "seats": 1}


@on_virtual_time
async def test_a_write_counts_once_however_often_it_is_recorded() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    write = written(set={"plan": "pro"})
    world.writes.record(write, PUBLISHED)
    world.posthog.persons["u_42"] = {"plan": "pro"}
    assert (await world.persons.properties("u_42")) == {"plan": "pro"}
    world.posthog.persons["u_42"] = {"plan": "team"}
    # The sending replica records it a second time.
    world.writes.record(write, PUBLISHED + timedelta(seconds=9))
    await asyncio.sleep(301)
    assert await world.persons.properties("u_42") == {"plan": "team"}


@on_virtual_time
async def test_a_read_waits_briefly_for_a_write_that_is_being_recorded() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"plan": "free"}
    recording = world.writes.recording()
    recording.__enter__()
    read = asyncio.create_task(world.persons.properties("u_42"))
    await asyncio.sleep(0.5)
    assert not read.done()
    world.write(set={"plan": "pro"})
    recording.__exit__(None, None, None)
    assert await read == {"plan": "pro"}
    with world.writes.recording():
        started = now()
        assert await world.persons.properties("u_42") == {"plan": "pro"}
        assert now() - started == 1.0
