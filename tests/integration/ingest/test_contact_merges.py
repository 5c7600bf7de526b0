"""A merge is undone: both contacts are as before, and are never merged again (correction C5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from hogsend.contract.contacts import ContactDetails
from hogsend.contract.errors import NotFound, Unavailable
from hogsend.contract.events import ListEvents
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts import merges, moving, storage
from services.ingest.contacts.contact import Contact
from services.ingest.contacts.merges import ContactMerges
from services.ingest.erasure.jobs import ErasureJobs
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.listing import EventList
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent
from tests.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
numbers = iter(range(1, 1_000_000))


def event_of(user_id: str, email: str | None = None, **person: Any) -> IncomingEvent:
    """Build an event that happens a second after the previous one."""
    number = next(numbers)
    at = NOW + timedelta(seconds=number)
    return IncomingEvent(
        ref=EventRef("posthog", f"e{number}"),
        name="e",
        user_id=user_id,
        email=email,
        occurred_at=at,
        received_at=datetime.now(UTC),
        properties={},
        person_properties=person,
    )


class People:
    """Stores events, and looks up the contacts that they are attributed to."""

    def __init__(self, database: Database) -> None:
        self.events = EventStore(database, EventTable(database))
        self.listed = EventList(database)
        self.merges = ContactMerges(database)

    async def save(self, *events: IncomingEvent) -> None:
        """Store each event in a batch of its own."""
        for event in events:
            await self.events.save([event])

    async def contact(self, key: str) -> ContactDetails:
        (contact,) = (await self.merges.find(key)).contacts
        return contact

    async def merge_anna_and_ben(self) -> ContactDetails:
        """Merge the contacts of anna and ben with an event that names anna and ben's address."""
        await self.save(
            event_of("anna", "anna@b.com", plan="pro", city="Rome"),
            event_of("ben", "ben@b.com", plan="free", hobby="chess"),
            event_of("anna", "ben@b.com"),
        )
        return await self.contact("anna")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    yield database
    await database.close()


@pytest.fixture
def people(database: Database) -> People:
    return People(database)


async def test_a_merged_contact_is_found_by_every_key(people: People) -> None:
    merged = await people.merge_anna_and_ben()
    assert merged.contact_key == "anna"
    assert merged.properties == {"plan": "free", "city": "Rome", "hobby": "chess"}
    assert [(key.kind, key.value) for key in merged.keys if key.kind != "row"] == [
        ("email", "anna@b.com"),
        ("email", "ben@b.com"),
        ("external", "anna"),
        ("external", "ben"),
    ]
    (merge,) = merged.merges
    assert {key.value for key in merge.keys} == {"ben", "ben@b.com"}
    for key in ("ben", "BEN@b.com ", merge.contact_id, merged.id):
        assert await people.contact(key) == merged
    assert (await people.merges.find("nobody")).contacts == []


async def test_contacts_that_one_batch_created_and_merged_can_be_split(people: People) -> None:
    batch = [
        event_of("anna", "anna@b.com", plan="pro"),
        event_of("ben", "ben@b.com", plan="free"),
        event_of("anna", "ben@b.com", news="yes"),
        event_of("ben", city="Rome"),
    ]
    outcomes = await people.events.save(batch)
    assert outcomes == [Saved(Status.STORED, "anna")] * 4
    (merge,) = (await people.contact("ben")).merges
    anna, ben = (await people.merges.split(merge.id)).contacts
    # Properties that were set since the merge stay with the survivor.
    assert anna.properties == {"plan": "pro", "news": "yes", "city": "Rome"}
    assert (ben.contact_key, ben.email, ben.properties) == ("ben", "ben@b.com", {"plan": "free"})
    assert [(key.kind, key.value) for key in ben.keys] == [
        ("email", "ben@b.com"),
        ("external", "ben"),
    ]
    page = await people.listed.page(ListEvents())
    assert sorted((event.user_id, event.contact_key) for event in page.events) == [
        ("anna", "anna"),
        ("anna", "anna"),
        ("ben", "ben"),
        ("ben", "ben"),
    ]


async def test_a_split_restores_the_keys_that_the_merging_batch_added_to_the_contact(
    people: People,
) -> None:
    await people.save(event_of("anna", "anna@b.com"), event_of("ben", "ben@b.com", plan="free"))
    await people.events.save(
        [
            event_of("ben", "ben@work.com", city="Rome"),
            event_of("anna", "ben@b.com"),
            event_of("carl"),
        ]
    )
    (merge,) = (await people.contact("ben")).merges
    anna, ben = (await people.merges.split(merge.id)).contacts
    assert {key.value for key in ben.keys} == {"ben", "ben@b.com", "ben@work.com"}
    assert ben.properties == {"plan": "free", "city": "Rome"}
    assert anna.properties == {}


async def test_one_batch_may_merge_many_contacts_into_one(people: People) -> None:
    batch = [event_of("u0", "u0@b.com")]
    for number in range(1, 9):
        batch += [event_of(f"u{number}", f"u{number}@b.com"), event_of("u0", f"u{number}@b.com")]
    outcomes = await people.events.save(batch)
    assert outcomes == [Saved(Status.STORED, "u0")] * len(batch)
    merges = (await people.contact("u7")).merges
    assert len(merges) == 8
    for merge in merges:
        await people.merges.split(merge.id)
    assert {key.value for key in (await people.contact("u0")).keys} == {"u0", "u0@b.com"}
    assert {key.value for key in (await people.contact("u7")).keys} == {"u7", "u7@b.com"}


@pytest.mark.parametrize("size", [1, 2, 6])
async def test_events_cause_the_same_merges_in_batches_of_any_size(
    people: People, database_url: str, size: int
) -> None:
    events = [
        event_of("carl", "carl@b.com", team="red"),
        event_of("anna", "anna@b.com", plan="pro"),
        event_of("ben", "ben@b.com", plan="free"),
        event_of("", "ben@b.com"),
        event_of("ben", "anna@b.com"),  # anna's contact, which the next event merges into carl's
        event_of("anna", "carl@b.com"),
    ]
    for start in range(0, len(events), size):
        await people.events.save(events[start : start + size])
    merged = await people.contact("carl")
    of_anna, of_ben = merged.merges
    assert {key.value for key in of_ben.keys} == {"ben", "ben@b.com"}
    assert {key.value for key in of_anna.keys} == {
        *("anna", "anna@b.com", "ben", "ben@b.com", of_ben.contact_id)
    }
    await people.merges.split(of_ben.id)
    assert await _stored(database_url) == [
        *(("carl", "carl"), ("anna", "anna"), ("ben", "ben"), ("", "ben")),
        *(("ben", "ben"), ("anna", "carl")),
    ]
    carl, anna = (await people.merges.split(of_anna.id)).contacts
    ben = await people.contact("ben")
    assert [contact.properties for contact in (carl, anna, ben)] == [
        *({"team": "red"}, {"plan": "pro"}, {"plan": "free"})
    ]
    assert [contact.email for contact in (carl, anna, ben)] == [
        "carl@b.com",
        "anna@b.com",
        "ben@b.com",
    ]


async def _stored(database_url: str) -> list[tuple[str, str]]:
    """Each event's user id and the first user id of the contact it is stored with, in order."""
    rows = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    user_ids = await rows.fetch(
        """SELECT event.user_id, coalesce(contact.external_id, merge.loser_before ->> 'external_id')
        FROM events AS event LEFT JOIN contacts AS contact ON contact.id = event.contact_id
        LEFT JOIN contact_merges AS merge ON merge.loser = event.contact_id
            AND merge.split_at IS NULL
        ORDER BY event.occurred_at"""
    )
    await rows.close()
    return [tuple(row) for row in user_ids]


async def test_a_split_moves_an_event_that_happened_before_the_merge_and_arrived_after_it(
    people: People,
) -> None:
    late = event_of("ben")
    await people.merge_anna_and_ben()
    await people.save(late)
    (merge,) = (await people.contact("anna")).merges
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents(user_id="ben"))
    assert {event.contact_key for event in page.events} == {"ben"}


async def test_a_split_moves_an_event_that_arrived_while_it_moved_the_others(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.merge_anna_and_ben()
    (merge,) = (await people.contact("anna")).merges
    move_events = moving.move_events

    async def move_before_another_arrives(database: Database, merge_id: int) -> None:
        await move_events(database, merge_id)
        await people.save(event_of("ben"))

    monkeypatch.setattr(merges, "move_events", move_before_another_arrives)
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents(user_id="ben"))
    assert [event.contact_key for event in page.events] == ["ben", "ben"]


async def test_a_split_restores_both_contacts(people: People) -> None:
    await people.save(event_of("anna", "anna@b.com", plan="pro", city="Rome"))
    anna = await people.contact("anna")
    await people.save(event_of("ben", "ben@b.com", plan="free", hobby="chess"))
    ben = await people.contact("ben")
    await people.save(event_of("anna", "ben@b.com", news="yes"))
    (merge,) = (await people.contact("anna")).merges
    survivor, split = (await people.merges.split(merge.id)).contacts
    assert (survivor.id, survivor.contact_key, survivor.keys) == (anna.id, "anna", anna.keys)
    # Properties that were set since the merge stay with the survivor.
    assert survivor.properties == {"plan": "pro", "city": "Rome", "news": "yes"}
    assert (split.id, split.keys, split.properties) == (ben.id, ben.keys, ben.properties)
    assert (split.email, split.last_seen_at) == ("ben@b.com", ben.last_seen_at)
    assert survivor.merges[0].split_at is not None


async def test_a_split_restores_an_email_that_the_survivor_used_last(people: People) -> None:
    merged = await people.merge_anna_and_ben()
    assert merged.email == "ben@b.com"
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert (anna.email, ben.email) == ("anna@b.com", "ben@b.com")


async def test_contacts_that_were_split_are_not_merged_again(people: People) -> None:
    merged = await people.merge_anna_and_ben()
    await people.merges.split(merged.merges[0].id)
    await people.save(event_of("anna", "ben@b.com", plan="team"), event_of("ben", "anna@b.com"))
    anna, ben = await people.contact("anna"), await people.contact("ben")
    assert anna.id != ben.id
    assert anna.properties["plan"] == "team"
    assert (
        ben.email,
        [contact.id for contact in (await people.merges.find("ben@b.com")).contacts],
    ) == (
        "ben@b.com",
        [ben.id],
    )


async def test_a_contact_merged_into_one_of_two_split_contacts_is_not_merged_into_the_other(
    people: People,
) -> None:
    merged = await people.merge_anna_and_ben()
    await people.merges.split(merged.merges[0].id)
    await people.save(
        event_of("anna2", "anna2@b.com"),
        event_of("anna2", "anna@b.com"),  # merged with anna
        event_of("anna2", "ben@b.com"),  # and therefore not with ben
    )
    assert (await people.contact("anna2")).id == (await people.contact("anna")).id
    assert (await people.contact("ben")).id != (await people.contact("anna")).id


async def test_a_split_attributes_events_to_the_contact_that_they_name(people: People) -> None:
    await people.merge_anna_and_ben()
    await people.save(event_of("ben"), event_of("anna"))
    (merge,) = (await people.contact("anna")).merges
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents())
    assert {(event.user_id, event.contact_key) for event in page.events} == {
        ("anna", "anna"),
        ("ben", "ben"),
    }


async def test_a_split_that_ran_out_of_time_continues_with_the_remaining_events(
    people: People, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.merge_anna_and_ben()
    await people.events.save([event_of("ben") for _ in range(7)] + [event_of("anna")])
    monkeypatch.setattr(moving, "MAX_FOUND", 3)
    monkeypatch.setattr(moving, "MAX_MOVED", 2)
    times = itertools.count(0.0)
    monkeypatch.setattr(moving, "time", SimpleNamespace(monotonic=lambda: next(times)))
    # The clock advances by a second each time it is read.
    monkeypatch.setattr(moving, "MOVE_SECONDS", 2.5)
    (merge,) = (await people.contact("ben")).merges
    with pytest.raises(Unavailable, match="3 events of the contact that is split off"):
        await people.merges.split(merge.id)
    # Although some events were moved, the contacts are still merged.
    assert (await people.contact("ben")).merges == [merge]
    page = await people.listed.page(ListEvents(user_id="ben"))
    assert {event.contact_key for event in page.events} == {"anna"}
    monkeypatch.setattr(moving, "MOVE_SECONDS", 100.0)
    # The transaction that undoes the merge has no event left to move.
    undo = ContactMerges._undo

    async def undo_after_all_moved(self: ContactMerges, connection: Any, row: Any) -> None:
        remaining = await connection.fetchval(
            "SELECT count(*) FROM events WHERE contact_id = $1 AND user_id = 'ben'", row["survivor"]
        )
        assert remaining == 0
        await undo(self, connection, row)

    monkeypatch.setattr(ContactMerges, "_undo", undo_after_all_moved)
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents())
    assert {(event.user_id, event.contact_key) for event in page.events} == {
        ("anna", "anna"),
        ("ben", "ben"),
    }


async def test_a_merge_whose_survivor_was_merged_later_can_be_undone(people: People) -> None:
    await people.save(event_of("carl", "carl@b.com", team="red"))
    await people.merge_anna_and_ben()
    # Carl's contact is older, so the other contact is merged into it.
    await people.save(event_of("carl", "anna@b.com"))
    merged = await people.contact("carl")
    assert {"anna", "ben", "carl"} <= {key.value for key in merged.keys}
    of_anna, of_ben = merged.merges
    survivor, split = (await people.merges.split(of_ben.id)).contacts
    assert {key.value for key in split.keys} == {"ben", "ben@b.com"}
    assert {"anna", "carl"} <= {key.value for key in survivor.keys}
    # Ben's plan had replaced anna's.
    assert survivor.properties == {"plan": "pro", "city": "Rome", "team": "red"}
    carl, anna = (await people.merges.split(of_anna.id)).contacts
    assert (carl.properties, carl.contact_key) == ({"team": "red"}, "carl")
    assert (await people.contact("ben")).id == split.id
    assert anna.contact_key == "anna"


@pytest.mark.parametrize(
    "first", ["carl", "anna"], ids=["merged into carl", "carl merged into them"]
)
async def test_the_record_of_an_undone_merge_keeps_no_data_of_an_erased_person(
    people: People, database: Database, database_url: str, first: str
) -> None:
    await people.save(event_of(first, f"{first}@b.com", team="red"))
    await people.merge_anna_and_ben()
    await people.save(event_of("carl", "carl@b.com"), event_of("anna", "carl@b.com"))
    of_carl, of_ben = (await people.contact("anna")).merges
    for merge in (of_carl, of_ben):
        await people.merges.split(merge.id)
    shown = (await people.contact("anna")).merges
    assert [{key.value for key in merge.keys} for merge in shown if merge.id == of_ben.id] == [
        {"ben", "ben@b.com"}
    ]
    ben = await people.contact("ben")
    await ErasureJobs(database).request(UUID(ben.id))
    rows = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    (remaining,) = await rows.fetch("SELECT merge::text AS record FROM contact_merges AS merge")
    assert "ben" not in remaining["record"]
    assert "chess" not in remaining["record"]
    assert ben.id not in remaining["record"]
    await rows.close()


async def test_properties_that_an_operator_wrote_into_the_table_survive_events_and_merges(
    people: People, database_url: str
) -> None:
    # The second event repeats all values, so that the contact has one version for all of them.
    await people.save(*(event_of(name, f"{name}@b.com") for name in ("anna", "ben")))
    await people.save(
        *(event_of(name, f"{name}@b.com") for name in ("anna", "ben")), event_of("carl")
    )
    operator = await asyncpg.connect(database_url)
    await operator.execute(
        "UPDATE ingest.contacts SET properties = jsonb_build_object(external_id, 'vip', 'plan', 1)"
    )
    await operator.close()
    await people.save(event_of("ben", plan="pro"), event_of("ben"))
    assert (await people.contact("ben")).properties == {"ben": "vip", "plan": "pro"}
    await people.save(event_of("carl", plan="pro"))
    carl = await people.contact("carl")
    assert (carl.properties, list(carl.origins)) == ({"carl": "vip", "plan": "pro"}, ["plan"])
    await people.save(event_of("anna", "ben@b.com"))
    merged = await people.contact("anna")
    assert merged.properties == {"anna": "vip", "ben": "vip", "plan": "pro"}
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert [contact.properties for contact in (anna, ben)] == [
        {"anna": "vip", "plan": 1},
        {"ben": "vip", "plan": "pro"},
    ]


async def test_a_split_moves_a_user_id_and_keeps_an_email_with_the_same_text(
    people: People,
) -> None:
    await people.save(
        event_of("anna", "ben@b.com"),
        event_of("ben@b.com", "ben@home.org"),
        event_of("ben@b.com", "ben@b.com"),
    )
    merged = await people.contact("anna")
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert {(key.kind, key.value) for key in anna.keys} == {
        ("external", "anna"),
        ("email", "ben@b.com"),
    }
    assert {(key.kind, key.value) for key in ben.keys} == {
        ("external", "ben@b.com"),
        ("email", "ben@home.org"),
    }


async def test_a_split_changes_no_row_of_other_contacts(people: People, database_url: str) -> None:
    observer = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})

    async def everything() -> set[str]:
        all_rows: set[str] = set()
        for table in ("contacts", "contact_keys", "contact_merges", "events"):
            rows = await observer.fetch(f"SELECT whole::text FROM {table} AS whole")  # noqa: S608
            all_rows |= {f"{table} {row[0]}" for row in rows}
        return all_rows

    await people.save(
        event_of("carla", "carla@b.com", plan="pro"),
        event_of("dora", "dora@b.com", plan="free"),
        event_of("carla", "dora@b.com"),
    )
    rows_of_others = await everything()
    merged = await people.merge_anna_and_ben()
    # The split of ben rewrites the record of this merge too, because ben's data is part of it.
    await people.save(event_of("eve", "eve@b.com"), event_of("anna", "eve@b.com"))
    await people.merges.split(merged.merges[0].id)
    assert {key.value for key in (await people.contact("ben")).keys} == {"ben", "ben@b.com"}
    assert rows_of_others - await everything() == set()
    await observer.close()


async def test_undoing_a_merge_twice_changes_nothing(people: People) -> None:
    merged = await people.merge_anna_and_ben()
    first = await people.merges.split(merged.merges[0].id)
    await people.save(event_of("ben", plan="team"))
    second = await people.merges.split(merged.merges[0].id)
    assert [contact.id for contact in first.contacts] == [contact.id for contact in second.contacts]
    assert second.contacts[1].properties["plan"] == "team"


async def test_a_merge_that_is_undone_twice_at_the_same_time_is_undone_once(
    people: People, database_url: str
) -> None:
    merged = await people.merge_anna_and_ben()
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    observer = await asyncpg.connect(database_url)
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = [asyncio.create_task(people.merges.split(merged.merges[0].id)) for _ in range(2)]
    await _waits_for_locks(observer, 2)
    await lock.rollback()
    first, second = await asyncio.gather(*splitting)
    await people.save(event_of("ben", plan="team"))
    assert [contact.id for contact in first.contacts] == [contact.id for contact in second.contacts]
    anna, ben = first.contacts
    assert {key.value for key in anna.keys} == {"anna", "anna@b.com"}
    assert {key.value for key in ben.keys} == {"ben", "ben@b.com"}
    assert second.contacts == first.contacts
    assert (await people.contact("ben")).properties["plan"] == "team"
    assert (await people.contact("anna")).properties["plan"] == "pro"
    await other.close()
    await observer.close()


async def test_undoing_an_unknown_merge_is_not_found(people: People) -> None:
    with pytest.raises(NotFound, match="there is no merge 17"):
        await people.merges.split(17)


async def test_an_event_that_waited_for_a_split_is_attributed_to_the_split_contact(
    people: People, database_url: str
) -> None:
    merged = await people.merge_anna_and_ben()
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    observer = await asyncpg.connect(database_url)
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = asyncio.create_task(people.merges.split(merged.merges[0].id))
    await _waits_for_locks(observer, 1)
    # The transaction has read that ben's keys lead to anna's row, and waits for it after the split.
    saving = asyncio.create_task(people.save(event_of("ben", plan="team")))
    await _waits_for_locks(observer, 2)
    await lock.rollback()
    await asyncio.gather(splitting, saving)
    await other.close()
    await observer.close()
    assert (await people.contact("anna")).properties["plan"] == "pro"
    assert (await people.contact("ben")).properties["plan"] == "team"


async def test_a_split_and_an_erasure_at_the_same_time_do_not_deadlock(
    people: People, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = await people.merge_anna_and_ben()
    observer = await asyncpg.connect(database_url)
    has_merge, waits = asyncio.Event(), iter([True])
    lock_owner = storage.lock_owner

    async def lock_merge_first(connection: Any, id: UUID) -> Contact | None:
        if asyncio.current_task() is splitting and next(waits, False):
            # The split has locked the merge, and the erasure the contact: each waits for the other.
            # Most often PostgreSQL cancels the erasure, which waited first.
            has_merge.set()
            await _waits_for_locks(observer, 1)
        return await lock_owner(connection, id)

    monkeypatch.setattr(storage, "lock_owner", lock_merge_first)
    splitting = asyncio.create_task(people.merges.split(merged.merges[0].id))
    await has_merge.wait()
    erasure = await ErasureJobs(database).request(UUID(merged.id))
    assert erasure.contact_id == merged.id
    assert (await people.merges.find("anna")).contacts == []
    remaining = (await people.merges.find("ben")).contacts
    try:
        split = (await splitting).contacts
        assert [contact.id for contact in split] == [merged.id, *(ben.id for ben in remaining)]
    except NotFound:
        assert remaining == []
    await observer.close()


async def _waits_for_locks(connection: Any, count: int) -> None:
    async def wait() -> bool:
        waiting = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(waiting == count)

    await eventually(wait)


@pytest.mark.parametrize("erased", ["loser", "survivor"])
async def test_an_erasure_that_waited_for_a_split_erases_only_the_contact_that_it_names(
    people: People, database: Database, database_url: str, erased: str
) -> None:
    merged = await people.merge_anna_and_ben()
    (merge,) = merged.merges
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    observer = await asyncpg.connect(database_url)
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = asyncio.create_task(people.merges.split(merge.id))
    await _waits_for_locks(observer, 1)
    # The erasure has read that ben's keys lead to anna's row, and waits for it after the split.
    id = merge.contact_id if erased == "loser" else merged.id
    erasing = asyncio.create_task(ErasureJobs(database).request(UUID(id)))
    await _waits_for_locks(observer, 2)
    await lock.rollback()
    _, erasure = await asyncio.gather(splitting, erasing)
    await other.close()
    await observer.close()
    assert erasure.contact_id == id
    remaining = {key: (await people.merges.find(key)).contacts for key in ("anna", "ben")}
    assert [bool(remaining["anna"]), bool(remaining["ben"])] == [
        erased == "loser",
        erased == "survivor",
    ]


async def test_merges_of_one_contact_that_are_undone_at_once_are_undone_one_by_one(
    people: People, database_url: str
) -> None:
    await people.save(event_of("carl", "carl@b.com", team="red"))
    await people.merge_anna_and_ben()
    await people.save(event_of("carl", "anna@b.com"))
    of_anna, of_ben = (await people.contact("carl")).merges
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    observer = await asyncpg.connect(database_url)
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    first = asyncio.create_task(people.merges.split(of_anna.id))
    await _waits_for_locks(observer, 1)
    # The second split has read that ben's keys lead to carl's row; the first leads them to anna's.
    second = asyncio.create_task(people.merges.split(of_ben.id))
    await _waits_for_locks(observer, 2)
    await lock.rollback()
    await asyncio.gather(first, second)
    await other.close()
    await observer.close()
    contacts = [await people.contact(name) for name in ("carl", "anna", "ben")]
    assert [{key.value for key in contact.keys} for contact in contacts] == [
        {"carl", "carl@b.com"},
        {"anna", "anna@b.com"},
        {"ben", "ben@b.com"},
    ]
    assert [contact.properties for contact in contacts] == [
        {"team": "red"},
        {"plan": "pro", "city": "Rome"},
        {"plan": "free", "hobby": "chess"},
    ]


EVENTS_OF_ANNA = {
    "anonymous id": lambda: event_of("anna-anon", "anna@b.com"),
    "user id": lambda: event_of("anna", "anna@b.com", plan="pro"),
    "address only": lambda: event_of("", "anna@b.com"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(EVENTS_OF_ANNA)), ids="; ".join)
async def test_an_erasure_after_a_split_deletes_all_data_of_its_person_and_no_other_data(
    people: People, database: Database, database_url: str, order: tuple[str, ...]
) -> None:
    await people.save(event_of("ben", "ben@b.com", plan="free"))
    events = [EVENTS_OF_ANNA[step]() for step in order]
    await people.save(*events, event_of("ben", "anna@b.com"))
    (merge,) = (
        merge
        for merge in (await people.contact("ben")).merges
        if any(key.value == "anna" for key in merge.keys)
    )
    await people.merges.split(merge.id)
    anna, ben = await people.contact("anna"), await people.contact("ben")
    jobs = ErasureJobs(database, settle_seconds=0)
    await jobs.request(UUID(anna.id))
    (job,) = await jobs.claim(announced=False, limit=1)
    await jobs.delete_events(job)
    await jobs.mark_announced(job)
    while swept := await jobs.claim(announced=True, limit=1):
        await jobs.record_sweep(swept[0], messages=0)
    rows = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    for table in ("contacts", "contact_keys", "contact_merges", "erasures", "events"):
        for (row,) in await rows.fetch(f"SELECT whole::text FROM {table} AS whole"):  # noqa: S608
            assert "anna" not in row
    remaining = await rows.fetch("SELECT user_id FROM events")
    assert [row["user_id"] for row in remaining] == ["ben", "ben"]
    await rows.close()
    assert await people.contact("ben") == msgspec.structs.replace(ben, merges=[])
    # PostHog sends everything again.
    assert await people.events.save(events) == [Saved(Status.ERASED, "")] * len(events)
