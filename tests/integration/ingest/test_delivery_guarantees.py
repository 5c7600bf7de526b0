"""The delivery guarantees of ingest under repeats, crashes, outages and unusual values."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from hogsend.contract.base import Empty
from hogsend.contract.events import INGEST_EVENTS, ListEvents
from hogsend.contract.health import INGEST_HEALTH
from hogsend.service.subscribers import batches
from hogsend.transport.publisher import Publisher
from tests.integration.ingest.driver import Driver
from tests.waiting import eventually


async def test_an_event_that_is_queued_a_hundred_times_is_stored_and_published_once(
    driver: Driver,
) -> None:
    async with driver.replica():
        await asyncio.gather(*(driver.post("u-1") for _ in range(100)))
        (event,) = await driver.events(1)
    assert event.id == "u-1"
    assert await driver.count("events") == 1


async def test_copies_that_jetstream_did_not_drop_are_stored_and_published_once(
    driver: Driver,
) -> None:
    body = b'{"event":{"event":"e","distinct_id":"anna","uuid":"u-1"}}'
    for _ in range(100):
        await driver.queue(body)
    async with driver.replica(batch_size=30):
        (event,) = await driver.events(1)
    assert event.id == "u-1"
    assert await driver.count("events") == 1


async def test_only_the_events_that_the_database_refuses_are_dead_lettered(driver: Driver) -> None:
    await driver.rows.execute("ALTER TABLE ingest.events ADD CHECK (event <> 'refused')")
    for number in range(20):
        await driver.post(f"u-{number}", event="refused" if number in (7, 13) else "fine")
    async with driver.replica():
        assert len(await driver.events(18)) == 18
        letters = await driver.dead_letters(2)
    assert {letter.reason for letter in letters} == {"rejected_by_database"}
    assert {letter.headers["Nats-Msg-Id"] for letter in letters} == {"u-7", "u-13"}
    assert await driver.count("events") == 18


async def test_nul_characters_are_stored_as_replacement_characters(driver: Driver) -> None:
    async with driver.replica():
        await driver.post(
            distinct_id="an\0na",
            event="a\0b",
            properties={"k\0": ["v\0"]},
            person={"properties": {"email": "a\0@b.com", "p\0": "\0"}},
        )
        (event,) = await driver.events(1)
    assert event.properties["k\ufffd"] == ["v\ufffd"]
    assert await driver.rows.fetchval("SELECT user_id FROM ingest.events") == "an\ufffdna"
    (contact,) = await driver.contacts()
    assert contact["email"] == "a\ufffd@b.com"


async def test_properties_as_deeply_nested_as_json_is_read_are_stored(driver: Driver) -> None:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    async with driver.replica():
        await driver.post(properties={"deep": deep}, person={"properties": {"deep": deep}})
        await driver.post("u-2", person={"properties": {"deep": None}})
        await driver.events(2)
    (contact,) = await driver.contacts()
    assert contact["properties"] == "{}"


async def test_extreme_numbers_are_unchanged_after_a_contact_is_updated(driver: Driver) -> None:
    # PostgreSQL writes 1e308 as an integer of 309 digits, which must be read back as well.
    numbers = {"huge": 1e308, "tiny": 5e-324, "long": 10**60, "negative": -(10**60)}
    async with driver.replica():
        await driver.post("u-1", person={"properties": numbers})
        await driver.drained()
        await driver.post("u-2", person={"properties": {"plan": "pro"}})
        await driver.events(2)
    (contact,) = await driver.contacts()
    stored = msgspec.json.decode(contact["properties"])
    assert stored.pop("plan") == "pro"
    assert float(stored.pop("huge")) == numbers.pop("huge")
    assert stored == numbers


async def test_ids_and_names_longer_than_an_index_entry_are_distinguished(driver: Driver) -> None:
    # So random that PostgreSQL cannot compress it to the size of an index entry.
    long = "".join(chr(0x4E00 + (n * n * 7919 + n * 104_729) % 20_000) for n in range(34_000))
    assert len(long.encode()) > 100_000
    async with driver.replica():
        for number, name in enumerate((long + "a", long + "b", long + "a")):
            await driver.post(f"u-{number}", distinct_id=name, event=name)
        await driver.events(3)
        assert len(await driver.contacts()) == 2
        request = msgspec.convert({"userId": long + "a", "event": long + "a"}, ListEvents)
        page = await driver.gateway.request(INGEST_EVENTS, request)
    assert page.total == 2


async def test_two_replicas_store_events_of_the_same_people_without_deadlock(
    driver: Driver,
) -> None:
    people = ["anna", "anna-phone", "ben", "cleo"]
    emails = ["a@x.org", "b@x.org", "c@x.org", None]
    for start in range(0, 2000, 100):  # as many as JetStream acknowledges in time on any machine
        await asyncio.gather(
            *(
                driver.post(
                    f"u-{n}",
                    distinct_id=people[n % 4],
                    person={"properties": {"email": emails[n * 7 // 5 % 4], "n": n}},
                    timestamp=f"2025-01-01T00:{n // 60:02}:{n % 60:02}Z",
                )
                for n in range(start, start + 100)
            )
        )
    before = deadlocks()
    async with driver.replica(batch_size=50), driver.replica(batch_size=50):
        events = await driver.events(2000)
    assert len({event.id for event in events}) == await driver.count("events") == 2000
    assert deadlocks() == before
    (contact,) = await driver.contacts()
    assert msgspec.json.decode(contact["properties"])["n"] == 1999


@pytest.mark.parametrize("jetstream_forgets", [False, True])
async def test_a_crash_between_commit_and_publish_loses_no_event(
    driver: Driver, *, jetstream_forgets: bool
) -> None:
    """No event is lost either if nats-server is killed too, and forgets the first delivery."""
    stored = asyncio.Event()

    async def hang(_self: Publisher, _messages: object) -> list[object]:
        stored.set()
        await asyncio.Event().wait()
        return []

    with patch.object(Publisher, "publish_all", hang):
        await driver.post("u-1")
        async with driver.replica():
            await stored.wait()
            assert await driver.count("events") == 1
    assert (await driver.operator.js.stream_info("EVENTS")).state.messages == 0
    if jetstream_forgets:
        # A new consumer delivers the message as if for the first time.
        assert await driver.operator.js.delete_consumer("WEBHOOKS", "ingest")

    async with driver.replica():
        (event,) = await driver.events(1)
    assert event.id == "u-1"
    assert await driver.count("events") == 1


async def test_a_batch_waits_for_the_database_during_an_outage_and_is_not_lost(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "HEARTBEAT_SECONDS", 0.05)
    blocker = await asyncpg.connect(driver.database_url)
    await blocker.execute("BEGIN; LOCK TABLE ingest.events")
    async with driver.replica():
        await driver.post("u-1")

        async def waiting() -> bool:
            return bool(
                await driver.rows.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            )

        await eventually(waiting)
        assert (await driver.operator.js.stream_info("WEBHOOKS")).state.messages == 1
        await eventually(lambda: _health_waits_for("PostgreSQL is not available", driver))
        await blocker.execute("ROLLBACK")
        (event,) = await driver.events(1)
        assert await _health_waits_for(None, driver)
        assert await driver.dead_letters(0) == []
    await blocker.close()
    assert event.id == "u-1"
    assert await driver.count("events") == 1


async def _health_waits_for(reason: str | None, driver: Driver) -> bool:
    return (await driver.gateway.request(INGEST_HEALTH, Empty())).waits_for == reason


def deadlocks() -> float:
    """Transactions that were repeated because of a deadlock, in this process."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "hogsend_retries_total" and "DeadlockDetected" in sample.labels["error"]
    )
