"""How events are stored, also while another transaction uses the same events and contacts."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from hogsend.contract.contacts import Origin
from hogsend.contract.errors import Unavailable
from hogsend.contract.events import ListEvents
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts.contact import EMAIL, EXTERNAL, Key
from services.ingest.contacts.merges import ContactMerges
from services.ingest.contacts.storage import digest, stripes
from services.ingest.erasure.freshness import FRESH_SECONDS
from services.ingest.erasure.jobs import ErasureJobs
from services.ingest.event_table.event_keys import digest_of
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.listing import EventList
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent
from tests.event_rows import create_partition, statuses
from tests.postgres_locks import waiting_for_a_lock
from tests.unit.ingest import fakes

NOW = fakes.NOW

KEY = "INSERT INTO event_keys (digest, received_at) VALUES ($1, $2)"


def incoming(id: str, user_id: str = "anna", **fields: Any) -> IncomingEvent:
    return msgspec.structs.replace(fakes.incoming(id, "e", user_id), **fields)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database, EventTable(database))


@pytest.fixture
def listed(database: Database) -> EventList:
    return EventList(database)


@pytest.fixture
async def other(store: EventStore, database_url: str) -> AsyncIterator[Any]:
    """A connection of another replica."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    yield connection
    await connection.close()


@pytest.fixture
async def third(other: Any, database_url: str) -> AsyncIterator[Any]:
    """A connection that probes for locks."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    yield connection
    await connection.close()


async def insert_contact(connection: Any, *keys: Key) -> uuid.UUID:
    id = uuid.uuid4()
    await connection.execute(
        "INSERT INTO contacts (id, source, external_id, properties, versions, created_at, "
        "first_seen_at, last_seen_at) VALUES ($1, 'posthog', $2, '{}', '{}', $3, $3, $3)",
        *(id, keys[0].value, NOW),
    )
    for key in keys:
        await connection.execute(
            "INSERT INTO contact_keys (kind, digest, value, contact_id) VALUES ($1, $2, $3, $4)",
            *(key.kind, digest(key), key.value, id),
        )
    return id


async def test_each_event_has_its_own_outcome(store: EventStore) -> None:
    first, again, other = incoming("1"), incoming("1"), incoming("2", "ben")
    assert await store.save([first, again, other]) == [
        Saved(Status.STORED, "anna"),
        Saved(Status.KNOWN, "anna"),
        Saved(Status.STORED, "ben"),
    ]
    repeated = incoming("1", received_at=NOW + timedelta(microseconds=1))
    elsewhere = incoming("1", ref=EventRef("elsewhere", "1"))
    assert statuses(await store.save([first, repeated, elsewhere])) == [
        Status.REDELIVERED,
        Status.KNOWN,
        Status.STORED,
    ]


async def test_erased_people_are_looked_up_only_for_events_that_are_stale(
    store: EventStore, database: Database, other: Any
) -> None:
    events = [incoming("1"), incoming("2", "ben")]
    started_at = asyncio.get_running_loop().time()
    await store.save(events)
    contact = await other.fetchval("SELECT id FROM contacts WHERE external_id = 'ben'")
    await ErasureJobs(database).request(contact)
    stale_since = started_at - FRESH_SECONDS
    assert await store.find_erased(events, since=stale_since) == {1}
    after = NOW + timedelta(days=10_000)
    later = incoming("3", "ben", occurred_at=after, received_at=after)
    assert await store.find_erased([later], since=stale_since) == set()
    await database.close()
    assert await store.find_erased(events, since=asyncio.get_running_loop().time()) == set()
    with pytest.raises(Unavailable):
        await store.find_erased(events, since=stale_since)


async def test_a_person_erased_while_the_process_was_frozen_after_the_lookup_is_recognized(
    store: EventStore, database: Database, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, transaction = asyncio.get_running_loop(), database.transaction
    events = [incoming("1"), incoming("2", "ben")]
    await store.save(events)
    contact = await other.fetchval("SELECT id FROM contacts WHERE external_id = 'ben'")

    @asynccontextmanager
    async def frozen_after() -> AsyncIterator[Any]:
        async with transaction() as connection:
            yield connection
        monkeypatch.setattr(database, "transaction", transaction)
        await ErasureJobs(database).request(contact)
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + FRESH_SECONDS)

    monkeypatch.setattr(database, "transaction", frozen_after)
    assert await store.find_erased(events, since=loop.time() - FRESH_SECONDS) == {1}


async def test_an_event_is_identified_by_its_id_with_its_source_name_and_user(
    store: EventStore, listed: EventList
) -> None:
    events = [
        incoming("1"),
        incoming("1", name="clicked"),
        incoming("1", "ben"),
        incoming("1", ref=EventRef("elsewhere", "1")),
    ]
    assert statuses(await store.save(events)) == [Status.STORED] * 4
    assert statuses(await store.save(events)) == [Status.REDELIVERED] * 4
    assert (await listed.page(ListEvents())).total == 4


async def test_a_stored_event_of_a_contact_without_a_user_id_keeps_its_contact_key(
    store: EventStore, other: Any
) -> None:
    event = incoming("1", "", email="a@b.com")
    await store.save([event])
    id = str(await other.fetchval("SELECT id FROM contacts"))
    assert await store.save([event]) == [Saved(Status.REDELIVERED, id)]


async def test_an_event_with_only_a_placeholder_user_id_is_stored_without_a_contact(
    store: EventStore, listed: EventList, other: Any
) -> None:
    anonymous = incoming("1", "null")
    assert await store.save([anonymous]) == [Saved(Status.STORED, "")]
    assert await store.save([anonymous]) == [Saved(Status.REDELIVERED, "")]
    (event,) = (await listed.page(ListEvents())).events
    assert (event.user_id, event.contact_key) == ("null", "")
    assert await other.fetchval("SELECT count(*) FROM contacts") == 0


async def test_a_merge_records_both_contacts_as_they_were(store: EventStore, other: Any) -> None:
    person = {"plan": "free"}
    await store.save([incoming("1", "", email="a@b.com", person_properties=person)])
    await store.save([incoming("2", person_properties={"plan": "pro"})])
    before = {row["id"]: row for row in await other.fetch("SELECT * FROM contacts")}
    await store.save([incoming("3", email="a@b.com")])
    (merge,) = await other.fetch("SELECT * FROM contact_merges")
    survivor = await other.fetchval("SELECT id FROM contacts")
    assert {merge["loser"], merge["survivor"]} == before.keys()
    assert merge["survivor"] == survivor
    assert json.loads(merge["loser_before"])["properties"] == person
    assert json.loads(merge["survivor_before"])["properties"] == {"plan": "pro"}
    assert json.loads(merge["loser_keys"]) == [{"kind": "email", "value": "a@b.com"}]


async def test_the_database_refuses_a_second_event_key_with_the_same_digest(
    store: EventStore, other: Any
) -> None:
    await store.save([incoming("1")])
    with pytest.raises(asyncpg.UniqueViolationError):
        await other.execute("INSERT INTO event_keys SELECT * FROM event_keys")


async def test_every_event_of_a_batch_gets_the_final_key_of_its_contact(
    store: EventStore,
) -> None:
    outcomes = await store.save(
        [
            incoming("1", "", email="a@b.com"),
            incoming("2"),
            incoming("3", email="a@b.com"),
        ]
    )
    assert {outcome.contact_key for outcome in outcomes if isinstance(outcome, Saved)} == {"anna"}


async def test_a_repeated_event_gets_the_key_of_the_contact_that_its_own_was_merged_into(
    store: EventStore,
) -> None:
    event = incoming("1", "", email="a@b.com")
    await store.save([event])
    await store.save([incoming("2")])
    await store.save([incoming("3", email="a@b.com")])
    assert await store.save([event]) == [Saved(Status.REDELIVERED, "anna")]


async def test_a_contact_that_another_replica_creates_meanwhile_is_used(
    store: EventStore, other: Any
) -> None:
    async with other.transaction():
        # Lock all stripes, so that the stripe of the key is among them.
        await other.execute("SELECT pg_advisory_xact_lock(7236, n) FROM generate_series(0, 1023) n")
        saving = asyncio.create_task(store.save([incoming("1")]))
        await waiting_for_a_lock(other)
        id = await insert_contact(other, Key(EXTERNAL, "anna"))
    assert await saving == [Saved(Status.STORED, "anna")]
    assert await other.fetchval("SELECT contact_id FROM events") == id
    assert await other.fetchval("SELECT count(*) FROM contacts") == 1


async def test_an_event_of_a_contact_that_another_replica_merges_meanwhile_goes_to_the_survivor(
    store: EventStore, other: Any
) -> None:
    survivor = await insert_contact(other, Key(EXTERNAL, "ben"))
    merged = await insert_contact(other, Key(EXTERNAL, "anna"), Key(EMAIL, "a@b.com"))
    async with other.transaction():
        await other.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", merged)
        saving = asyncio.create_task(store.save([incoming("1")]))
        await waiting_for_a_lock(other)
        await other.execute("UPDATE contact_keys SET contact_id = $1", survivor)
        await other.execute("DELETE FROM contacts WHERE id = $1", merged)
    assert await saving == [Saved(Status.STORED, "ben")]
    assert await other.fetchval("SELECT contact_id FROM events") == survivor


async def test_an_event_that_another_replica_stores_meanwhile_is_not_stored_again(
    store: EventStore, other: Any
) -> None:
    id = await insert_contact(other, Key(EXTERNAL, "anna"))
    async with other.transaction():
        await other.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", id)
        saving = asyncio.create_task(store.save([incoming("1")]))
        await waiting_for_a_lock(other)
        await create_partition(other)
        at = NOW - timedelta(seconds=1)
        await other.execute(
            "INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, "
            "received_at) VALUES ('posthog', '1', 'e', 'anna', $1, '{}', $2, $2)",
            *(id, at),
        )
        await other.execute(KEY, digest_of(incoming("1").key), at)
    assert await saving == [Saved(Status.KNOWN, "anna")]


async def test_concurrent_batches_with_the_same_new_people_create_each_contact_once(
    store: EventStore, other: Any
) -> None:
    people = [f"person {number}" for number in range(20)]
    await asyncio.gather(
        *(
            store.save([incoming(f"{n} {person}", person) for person in people[n:] + people[:n]])
            for n in range(8)
        )
    )
    assert await other.fetchval("SELECT count(*) FROM contacts") == 20
    assert await other.fetchval("SELECT count(*) FROM events") == 160


async def test_a_transaction_waits_for_one_stripe_before_it_locks_a_higher_one(
    store: EventStore, other: Any, third: Any
) -> None:
    people = [f"person {number}" for number in range(50)]
    numbers = sorted(stripes(digest(Key(EXTERNAL, person)) for person in people))
    locked, higher = numbers[10], numbers[11:]
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(7236, $1)", locked)
        saving = asyncio.create_task(store.save([incoming(person, person) for person in people]))
        await waiting_for_a_lock(other)
        free = "SELECT bool_and(pg_try_advisory_xact_lock(7236, n)) FROM unnest($1::int[]) n"
        assert await third.fetchval(free, higher)
    assert len(await saving) == 50


async def test_a_transaction_waits_for_the_first_contact_before_it_locks_another(
    store: EventStore, other: Any, third: Any
) -> None:
    ids = [await insert_contact(other, Key(EXTERNAL, name)) for name in ("anna", "ben")]
    # The update moves the lower id behind the higher one in the table, in the order of a scan.
    await other.execute("UPDATE contacts SET updated_at = now() WHERE id = $1", min(ids))
    async with other.transaction():
        await other.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", min(ids))
        saving = asyncio.create_task(store.save([incoming("1", "anna"), incoming("2", "ben")]))
        await waiting_for_a_lock(other)
        await third.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE NOWAIT", max(ids))
    assert len(await saving) == 2


async def test_a_transaction_waits_for_the_first_key_before_it_inserts_another(
    store: EventStore, other: Any, third: Any
) -> None:
    events = [incoming(str(number), f"person {number}") for number in range(9)]
    first, *remaining = sorted(digest_of(event.key) for event in events)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(KEY, first, NOW)
    saving = asyncio.create_task(store.save(events))
    await waiting_for_a_lock(third)
    await third.execute("SET lock_timeout = '5s'")
    probe = third.transaction()
    await probe.start()
    for digest_ in remaining:
        await third.execute(KEY, digest_, NOW)
    await probe.rollback()
    await transaction.rollback()
    assert statuses(await saving) == [Status.STORED] * 9


@pytest.mark.parametrize("later", [[], ["2"]], ids=["alone", "in a batch"])
async def test_an_event_without_a_person_that_another_replica_stores_meanwhile_is_not_stored_again(
    store: EventStore, other: Any, later: list[str]
) -> None:
    # No contact or stripe is locked for an event without a person.
    event = incoming("1", "")
    transaction = other.transaction()
    await transaction.start()
    await other.execute(KEY, digest_of(event.key), NOW)
    saving = asyncio.create_task(store.save([event, *map(incoming, later)]))
    await waiting_for_a_lock(other)
    await transaction.commit()
    assert statuses(await saving) == [Status.REDELIVERED, *(Status.STORED for _ in later)]


async def test_events_are_listed_by_the_time_they_happened_whenever_they_arrived(
    store: EventStore, listed: EventList
) -> None:
    def hours(count: int) -> datetime:
        return NOW + timedelta(hours=count)

    await store.save(
        [
            incoming("late", occurred_at=hours(1), received_at=hours(9)),
            incoming("early", occurred_at=hours(2), received_at=hours(3)),
            incoming("last", occurred_at=hours(3), received_at=hours(4)),
        ]
    )

    async def ids(**filters: Any) -> list[str]:
        page = await listed.page(ListEvents(**filters))
        assert page.total == len(page.events)
        return [event.id for event in page.events]

    assert await ids() == ["last", "early", "late"]
    # Both ends are included.
    assert await ids(occurred_from=hours(2)) == ["last", "early"]
    assert await ids(occurred_to=hours(2)) == ["early", "late"]
    assert await ids(occurred_from=hours(2), occurred_to=hours(2), user_id="anna") == ["early"]
    assert await ids(occurred_from=hours(4)) == []


async def test_an_event_is_found_by_its_id_in_every_source(
    store: EventStore, listed: EventList
) -> None:
    await store.save(
        [
            incoming("e-1"),
            incoming("e-1", name="renamed"),
            incoming("", ref=EventRef("billing", "e-1")),
            incoming("", ref=EventRef("api", "e-2")),
        ]
    )

    async def sources(**filters: Any) -> list[str]:
        page = await listed.page(ListEvents(**filters))
        assert page.total == len(page.events)
        return sorted(event.source for event in page.events)

    assert await sources(id="e-1") == ["billing", "posthog", "posthog"]
    assert await sources(id="e-1", event="renamed") == ["posthog"]
    assert await sources(id="e-2") == ["api"]
    assert await sources(id="e-2", source="posthog") == []
    assert await sources(id="e-") == []


async def test_values_that_are_stored_already_are_not_written_again(
    store: EventStore, other: Any
) -> None:
    def event_with(id: str, at: int, plan: str, **more: str) -> IncomingEvent:
        moment = NOW + timedelta(seconds=at)
        person = {"plan": plan, **more}
        return incoming(id, occurred_at=moment, received_at=moment, person_properties=person)

    async def row() -> Any:
        return await other.fetchrow(
            "SELECT properties, versions, restated_by, last_seen_at FROM contacts"
        )

    await store.save([event_with("first", 1, "pro")])
    before = await row()
    await store.save([event_with("again", 5, "pro")])
    after = await row()
    assert after["versions"] == before["versions"]
    assert (after["restated_by"], after["last_seen_at"]) == ("again", NOW + timedelta(seconds=5))
    (contact,) = (await ContactMerges(store._database).find("anna")).contacts
    assert contact.origins == {"plan": Origin(at=NOW + timedelta(seconds=5), event_id="again")}

    # A late repeat changes nothing.
    await store.save([event_with("late", 2, "pro")])
    assert await row() == after

    await store.save([event_with("between", 3, "free", city="Bern")])
    last = await row()
    assert json.loads(last["properties"]) == {"plan": "pro", "city": "Bern"}
    assert {name: id for name, (_, id) in json.loads(last["versions"]).items()} == {
        "plan": "again",
        "city": "between",
    }
    assert last["restated_by"] is None
