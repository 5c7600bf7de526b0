"""A merge is undone: both people are who they were, and stay apart (correction C5)."""

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
from services.ingest.contacts import moving, storage
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


def said(user_id: str, email: str | None = None, **person: Any) -> IncomingEvent:
    """The next event, a second after the one before."""
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
    """Stores events, and looks at whom they are about."""

    def __init__(self, database: Database) -> None:
        self.events = EventStore(database, EventTable(database))
        self.listed = EventList(database)
        self.merges = ContactMerges(database)

    async def hear(self, *events: IncomingEvent) -> None:
        """Store each event in a batch of its own."""
        for event in events:
            await self.events.save([event])

    async def one(self, key: str) -> ContactDetails:
        (found,) = (await self.merges.find(key)).contacts
        return found

    async def share(self) -> ContactDetails:
        """Anna and ben, who share an address for a moment, become one person."""
        await self.hear(
            said("anna", "anna@b.com", plan="pro", city="Rome"),
            said("ben", "ben@b.com", plan="free", hobby="chess"),
            said("anna", "ben@b.com"),
        )
        return await self.one("anna")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    yield database
    await database.close()


@pytest.fixture
def people(database: Database) -> People:
    return People(database)


async def test_a_merge_is_shown_by_every_key(people: People) -> None:
    merged = await people.share()
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
        assert await people.one(key) == merged
    assert (await people.merges.find("nobody")).contacts == []


async def test_people_that_one_batch_made_and_merged_can_be_split_too(people: People) -> None:
    batch = [
        said("anna", "anna@b.com", plan="pro"),
        said("ben", "ben@b.com", plan="free"),
        said("anna", "ben@b.com", news="yes"),
        said("ben", city="Rome"),
    ]
    outcomes = await people.events.save(batch)
    assert outcomes == [Saved(Status.STORED, "anna")] * 4
    (merge,) = (await people.one("ben")).merges
    anna, ben = (await people.merges.split(merge.id)).contacts
    # What was said since the merge stays with the survivor.
    assert anna.properties == {"plan": "pro", "news": "yes", "city": "Rome"}
    assert (ben.contact_key, ben.email, ben.properties) == ("ben", "ben@b.com", {"plan": "free"})
    assert [(key.kind, key.value) for key in ben.keys] == [
        ("email", "ben@b.com"),
        ("external", "ben"),
    ]
    page = await people.listed.page(ListEvents())
    assert sorted((one.user_id, one.contact_key) for one in page.events) == [
        ("anna", "anna"),
        ("anna", "anna"),
        ("ben", "ben"),
        ("ben", "ben"),
    ]


async def test_a_contact_gets_back_the_keys_that_its_last_batch_gave_it(people: People) -> None:
    await people.hear(said("anna", "anna@b.com"), said("ben", "ben@b.com", plan="free"))
    await people.events.save(
        [said("ben", "ben@work.com", city="Rome"), said("anna", "ben@b.com"), said("carl")]
    )
    (merge,) = (await people.one("ben")).merges
    anna, ben = (await people.merges.split(merge.id)).contacts
    assert {key.value for key in ben.keys} == {"ben", "ben@b.com", "ben@work.com"}
    assert ben.properties == {"plan": "free", "city": "Rome"}
    assert anna.properties == {}


async def test_a_batch_may_merge_as_often_as_it_likes(people: People) -> None:
    batch = [said("u0", "u0@b.com")]
    for number in range(1, 9):
        batch += [said(f"u{number}", f"u{number}@b.com"), said("u0", f"u{number}@b.com")]
    outcomes = await people.events.save(batch)
    assert outcomes == [Saved(Status.STORED, "u0")] * len(batch)
    merges = (await people.one("u7")).merges
    assert len(merges) == 8
    for merge in merges:
        await people.merges.split(merge.id)
    assert {key.value for key in (await people.one("u0")).keys} == {"u0", "u0@b.com"}
    assert {key.value for key in (await people.one("u7")).keys} == {"u7", "u7@b.com"}


@pytest.mark.parametrize("size", [1, 2, 6])
async def test_merges_are_the_same_in_any_batches(
    people: People, database_url: str, size: int
) -> None:
    events = [
        said("carl", "carl@b.com", team="red"),
        said("anna", "anna@b.com", plan="pro"),
        said("ben", "ben@b.com", plan="free"),
        said("", "ben@b.com"),
        said("ben", "anna@b.com"),  # anna, who is carl from the next event on
        said("anna", "carl@b.com"),
    ]
    for start in range(0, len(events), size):
        await people.events.save(events[start : start + size])
    whole = await people.one("carl")
    of_anna, of_ben = whole.merges
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
    ben = await people.one("ben")
    assert [one.properties for one in (carl, anna, ben)] == [
        *({"team": "red"}, {"plan": "pro"}, {"plan": "free"})
    ]
    assert [one.email for one in (carl, anna, ben)] == ["carl@b.com", "anna@b.com", "ben@b.com"]


async def _stored(database_url: str) -> list[tuple[str, str]]:
    """Each event's user id, and the first one of the contact that it is stored with, in order."""
    rows = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    found = await rows.fetch(
        """SELECT event.user_id, coalesce(contact.external_id, merge.loser_before ->> 'external_id')
        FROM events AS event LEFT JOIN contacts AS contact ON contact.id = event.contact_id
        LEFT JOIN contact_merges AS merge ON merge.loser = event.contact_id
            AND merge.split_at IS NULL
        ORDER BY event.occurred_at"""
    )
    await rows.close()
    return [tuple(row) for row in found]


async def test_an_event_that_was_on_its_way_during_the_merge_follows_its_person(
    people: People,
) -> None:
    late = said("ben")
    await people.share()
    await people.hear(late)
    (merge,) = (await people.one("anna")).merges
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents(user_id="ben"))
    assert {one.contact_key for one in page.events} == {"ben"}


async def test_both_people_are_again_who_they_were(people: People) -> None:
    await people.hear(said("anna", "anna@b.com", plan="pro", city="Rome"))
    anna = await people.one("anna")
    await people.hear(said("ben", "ben@b.com", plan="free", hobby="chess"))
    ben = await people.one("ben")
    await people.hear(said("anna", "ben@b.com", news="yes"))
    (merge,) = (await people.one("anna")).merges
    survivor, split = (await people.merges.split(merge.id)).contacts
    assert (survivor.id, survivor.contact_key, survivor.keys) == (anna.id, "anna", anna.keys)
    # What was said since the merge stays with the survivor.
    assert survivor.properties == {"plan": "pro", "city": "Rome", "news": "yes"}
    assert (split.id, split.keys, split.properties) == (ben.id, ben.keys, ben.properties)
    assert (split.email, split.last_seen_at) == ("ben@b.com", ben.last_seen_at)
    assert survivor.merges[0].split_at is not None


async def test_an_address_goes_back_though_the_survivor_said_it_last(people: People) -> None:
    merged = await people.share()
    assert merged.email == "ben@b.com"
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert (anna.email, ben.email) == ("anna@b.com", "ben@b.com")


async def test_people_who_were_split_stay_apart(people: People) -> None:
    merged = await people.share()
    await people.merges.split(merged.merges[0].id)
    await people.hear(said("anna", "ben@b.com", plan="team"), said("ben", "anna@b.com"))
    anna, ben = await people.one("anna"), await people.one("ben")
    assert anna.id != ben.id
    assert anna.properties["plan"] == "team"
    assert (ben.email, [one.id for one in (await people.merges.find("ben@b.com")).contacts]) == (
        "ben@b.com",
        [ben.id],
    )


async def test_who_becomes_part_of_either_stays_apart_from_the_other(people: People) -> None:
    merged = await people.share()
    await people.merges.split(merged.merges[0].id)
    await people.hear(
        said("anna2", "anna2@b.com"),
        said("anna2", "anna@b.com"),  # one person with anna
        said("anna2", "ben@b.com"),  # and so none with ben
    )
    assert (await people.one("anna2")).id == (await people.one("anna")).id
    assert (await people.one("ben")).id != (await people.one("anna")).id


async def test_events_follow_the_person_they_name(people: People) -> None:
    await people.share()
    await people.hear(said("ben"), said("anna"))
    (merge,) = (await people.one("anna")).merges
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents())
    assert {(one.user_id, one.contact_key) for one in page.events} == {
        ("anna", "anna"),
        ("ben", "ben"),
    }


async def test_a_split_of_many_events_goes_on_where_it_ended(
    people: People, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.share()
    await people.events.save([said("ben") for _ in range(7)] + [said("anna")])
    monkeypatch.setattr(moving, "MAX_FOUND", 3)
    monkeypatch.setattr(moving, "MAX_MOVED", 2)
    times = itertools.count(0.0)
    monkeypatch.setattr(moving, "time", SimpleNamespace(monotonic=lambda: next(times)))
    # Each look at the clock takes a second.
    monkeypatch.setattr(moving, "MOVE_SECONDS", 2.5)
    (merge,) = (await people.one("ben")).merges
    with pytest.raises(Unavailable, match="3 events of the contact that is split off"):
        await people.merges.split(merge.id)
    # Whatever was moved, they are one person still.
    assert (await people.one("ben")).merges == [merge]
    page = await people.listed.page(ListEvents(user_id="ben"))
    assert {event.contact_key for event in page.events} == {"anna"}
    monkeypatch.setattr(moving, "MOVE_SECONDS", 100.0)
    # The transaction that undoes the merge has none of them left.
    undo = ContactMerges._undo

    async def undo_after_all_moved(self: ContactMerges, connection: Any, row: Any) -> None:
        under = await connection.fetchval(
            "SELECT count(*) FROM events WHERE contact_id = $1 AND user_id = 'ben'", row["survivor"]
        )
        assert under == 0
        await undo(self, connection, row)

    monkeypatch.setattr(ContactMerges, "_undo", undo_after_all_moved)
    await people.merges.split(merge.id)
    page = await people.listed.page(ListEvents())
    assert {(one.user_id, one.contact_key) for one in page.events} == {
        ("anna", "anna"),
        ("ben", "ben"),
    }


async def test_a_merge_below_another_can_be_undone(people: People) -> None:
    await people.hear(said("carl", "carl@b.com", team="red"))
    await people.share()
    # Carl has been known for longer, and takes both over.
    await people.hear(said("carl", "anna@b.com"))
    whole = await people.one("carl")
    assert {"anna", "ben", "carl"} <= {key.value for key in whole.keys}
    of_anna, of_ben = whole.merges
    survivor, split = (await people.merges.split(of_ben.id)).contacts
    assert {key.value for key in split.keys} == {"ben", "ben@b.com"}
    assert {"anna", "carl"} <= {key.value for key in survivor.keys}
    # Ben's plan had replaced anna's.
    assert survivor.properties == {"plan": "pro", "city": "Rome", "team": "red"}
    carl, anna = (await people.merges.split(of_anna.id)).contacts
    assert (carl.properties, carl.contact_key) == ({"team": "red"}, "carl")
    assert (await people.one("ben")).id == split.id
    assert anna.contact_key == "anna"


@pytest.mark.parametrize("first", ["carl", "anna"], ids=["into another", "another into them"])
async def test_a_merge_that_is_undone_says_nothing_of_anybody(
    people: People, database: Database, database_url: str, first: str
) -> None:
    await people.hear(said(first, f"{first}@b.com", team="red"))
    await people.share()
    await people.hear(said("carl", "carl@b.com"), said("anna", "carl@b.com"))
    of_carl, of_ben = (await people.one("anna")).merges
    for merge in (of_carl, of_ben):
        await people.merges.split(merge.id)
    shown = (await people.one("anna")).merges
    assert [{key.value for key in merge.keys} for merge in shown if merge.id == of_ben.id] == [
        {"ben", "ben@b.com"}
    ]
    ben = await people.one("ben")
    await ErasureJobs(database).request(UUID(ben.id))
    rows = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    (left,) = await rows.fetch("SELECT merge::text AS record FROM contact_merges AS merge")
    assert "ben" not in left["record"]
    assert "chess" not in left["record"]
    assert ben.id not in left["record"]
    await rows.close()


async def test_what_an_operator_wrote_into_the_table_stays_and_hinders_no_event(
    people: People, database_url: str
) -> None:
    # The second one changes nothing, so that the contact has one version for all it knows.
    await people.hear(*(said(name, f"{name}@b.com") for name in ("anna", "ben")))
    await people.hear(*(said(name, f"{name}@b.com") for name in ("anna", "ben")), said("carl"))
    operator = await asyncpg.connect(database_url)
    await operator.execute(
        "UPDATE ingest.contacts SET properties = jsonb_build_object(external_id, 'vip', 'plan', 1)"
    )
    await operator.close()
    await people.hear(said("ben", plan="pro"), said("ben"))
    assert (await people.one("ben")).properties == {"ben": "vip", "plan": "pro"}
    await people.hear(said("carl", plan="pro"))
    carl = await people.one("carl")
    assert (carl.properties, list(carl.origins)) == ({"carl": "vip", "plan": "pro"}, ["plan"])
    await people.hear(said("anna", "ben@b.com"))
    merged = await people.one("anna")
    assert merged.properties == {"anna": "vip", "ben": "vip", "plan": "pro"}
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert [one.properties for one in (anna, ben)] == [
        {"anna": "vip", "plan": 1},
        {"ben": "vip", "plan": "pro"},
    ]


async def test_a_user_id_goes_back_and_an_address_of_the_same_text_stays(people: People) -> None:
    await people.hear(
        said("anna", "ben@b.com"),
        said("ben@b.com", "ben@home.org"),
        said("ben@b.com", "ben@b.com"),
    )
    merged = await people.one("anna")
    anna, ben = (await people.merges.split(merged.merges[0].id)).contacts
    assert {(key.kind, key.value) for key in anna.keys} == {
        ("external", "anna"),
        ("email", "ben@b.com"),
    }
    assert {(key.kind, key.value) for key in ben.keys} == {
        ("external", "ben@b.com"),
        ("email", "ben@home.org"),
    }


async def test_a_split_changes_nothing_about_anybody_else(
    people: People, database_url: str
) -> None:
    looking = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})

    async def everything() -> set[str]:
        found: set[str] = set()
        for table in ("contacts", "contact_keys", "contact_merges", "events"):
            rows = await looking.fetch(f"SELECT one::text FROM {table} AS one")  # noqa: S608
            found |= {f"{table} {row[0]}" for row in rows}
        return found

    await people.hear(
        said("carla", "carla@b.com", plan="pro"),
        said("dora", "dora@b.com", plan="free"),
        said("carla", "dora@b.com"),
    )
    others = await everything()
    merged = await people.share()
    # Ben became part of her, too, so that the record of this merge is written anew.
    await people.hear(said("eve", "eve@b.com"), said("anna", "eve@b.com"))
    await people.merges.split(merged.merges[0].id)
    assert {key.value for key in (await people.one("ben")).keys} == {"ben", "ben@b.com"}
    assert others - await everything() == set()
    await looking.close()


async def test_undoing_twice_changes_nothing(people: People) -> None:
    merged = await people.share()
    first = await people.merges.split(merged.merges[0].id)
    await people.hear(said("ben", plan="team"))
    second = await people.merges.split(merged.merges[0].id)
    assert [one.id for one in first.contacts] == [one.id for one in second.contacts]
    assert second.contacts[1].properties["plan"] == "team"


async def test_a_merge_that_is_undone_twice_at_the_same_time_is_undone_once(
    people: People, database_url: str
) -> None:
    merged = await people.share()
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    looking = await asyncpg.connect(database_url)
    held = other.transaction()
    await held.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = [asyncio.create_task(people.merges.split(merged.merges[0].id)) for _ in range(2)]
    await _waiting(looking, 2)
    await held.rollback()
    first, second = await asyncio.gather(*splitting)
    await people.hear(said("ben", plan="team"))
    assert [one.id for one in first.contacts] == [one.id for one in second.contacts]
    anna, ben = first.contacts
    assert {key.value for key in anna.keys} == {"anna", "anna@b.com"}
    assert {key.value for key in ben.keys} == {"ben", "ben@b.com"}
    assert second.contacts == first.contacts
    assert (await people.one("ben")).properties["plan"] == "team"
    assert (await people.one("anna")).properties["plan"] == "pro"
    await other.close()
    await looking.close()


async def test_a_merge_that_there_is_not_cannot_be_undone(people: People) -> None:
    with pytest.raises(NotFound, match="there is no merge 17"):
        await people.merges.split(17)


async def test_an_event_that_waited_for_the_split_goes_to_the_right_person(
    people: People, database_url: str
) -> None:
    merged = await people.share()
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    looking = await asyncpg.connect(database_url)
    held = other.transaction()
    await held.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = asyncio.create_task(people.merges.split(merged.merges[0].id))
    await _waiting(looking, 1)
    # It has read that ben is anna, and waits for her row behind the split.
    hearing = asyncio.create_task(people.hear(said("ben", plan="team")))
    await _waiting(looking, 2)
    await held.rollback()
    await asyncio.gather(splitting, hearing)
    await other.close()
    await looking.close()
    assert (await people.one("anna")).properties["plan"] == "pro"
    assert (await people.one("ben")).properties["plan"] == "team"


async def test_a_split_and_an_erasure_at_the_same_time_end_both(
    people: People, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = await people.share()
    looking = await asyncpg.connect(database_url)
    has_merge, waits = asyncio.Event(), iter([True])
    lock_owner = storage.lock_owner

    async def lock_merge_first(connection: Any, id: UUID) -> Contact | None:
        if asyncio.current_task() is splitting and next(waits, False):
            # The split has the merge, and the erasure the contact: each waits for the other's.
            # Most often PostgreSQL ends the erasure, which waits first.
            has_merge.set()
            await _waiting(looking, 1)
        return await lock_owner(connection, id)

    monkeypatch.setattr(storage, "lock_owner", lock_merge_first)
    splitting = asyncio.create_task(people.merges.split(merged.merges[0].id))
    await has_merge.wait()
    erasure = await ErasureJobs(database).request(UUID(merged.id))
    assert erasure.contact_id == merged.id
    assert (await people.merges.find("anna")).contacts == []
    left = (await people.merges.find("ben")).contacts
    try:
        assert [one.id for one in (await splitting).contacts] == [merged.id, *(o.id for o in left)]
    except NotFound:
        assert left == []
    await looking.close()


async def _waiting(connection: Any, count: int) -> None:
    async def wait() -> bool:
        waiting = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(waiting == count)

    await eventually(wait)


@pytest.mark.parametrize("named", ["loser", "survivor"])
async def test_an_erasure_that_waited_for_a_split_takes_the_one_it_names_only(
    people: People, database: Database, database_url: str, named: str
) -> None:
    merged = await people.share()
    (merge,) = merged.merges
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    looking = await asyncpg.connect(database_url)
    held = other.transaction()
    await held.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    splitting = asyncio.create_task(people.merges.split(merge.id))
    await _waiting(looking, 1)
    # It has read that ben is anna, and waits for her row behind the split.
    id = merge.contact_id if named == "loser" else merged.id
    erasing = asyncio.create_task(ErasureJobs(database).request(UUID(id)))
    await _waiting(looking, 2)
    await held.rollback()
    _, erasure = await asyncio.gather(splitting, erasing)
    await other.close()
    await looking.close()
    assert erasure.contact_id == id
    left = {key: (await people.merges.find(key)).contacts for key in ("anna", "ben")}
    assert [bool(left["anna"]), bool(left["ben"])] == [named == "loser", named == "survivor"]


async def test_merges_of_one_person_that_are_undone_at_once_are_undone_one_by_one(
    people: People, database_url: str
) -> None:
    await people.hear(said("carl", "carl@b.com", team="red"))
    await people.share()
    await people.hear(said("carl", "anna@b.com"))
    of_anna, of_ben = (await people.one("carl")).merges
    other = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    looking = await asyncpg.connect(database_url)
    held = other.transaction()
    await held.start()
    await other.execute("SELECT FROM contacts FOR UPDATE")
    first = asyncio.create_task(people.merges.split(of_anna.id))
    await _waiting(looking, 1)
    # It has read that ben is carl, who will be anna again by the time it has the row.
    second = asyncio.create_task(people.merges.split(of_ben.id))
    await _waiting(looking, 2)
    await held.rollback()
    await asyncio.gather(first, second)
    await other.close()
    await looking.close()
    three = [await people.one(name) for name in ("carl", "anna", "ben")]
    assert [{key.value for key in one.keys} for one in three] == [
        {"carl", "carl@b.com"},
        {"anna", "anna@b.com"},
        {"ben", "ben@b.com"},
    ]
    assert [one.properties for one in three] == [
        {"team": "red"},
        {"plan": "pro", "city": "Rome"},
        {"plan": "free", "hobby": "chess"},
    ]


KNOWN_BY = {
    "a device": lambda: said("anna-anon", "anna@b.com"),
    "herself": lambda: said("anna", "anna@b.com", plan="pro"),
    "an address only": lambda: said("", "anna@b.com"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(KNOWN_BY)), ids="; ".join)
async def test_nothing_of_an_erased_person_is_left_and_nothing_of_another_goes(
    people: People, database: Database, database_url: str, order: tuple[str, ...]
) -> None:
    await people.hear(said("ben", "ben@b.com", plan="free"))
    heard = [KNOWN_BY[step]() for step in order]
    await people.hear(*heard, said("ben", "anna@b.com"))
    (merge,) = (
        merge
        for merge in (await people.one("ben")).merges
        if any(key.value == "anna" for key in merge.keys)
    )
    await people.merges.split(merge.id)
    anna, ben = await people.one("anna"), await people.one("ben")
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
    left = await rows.fetch("SELECT user_id FROM events")
    assert [row["user_id"] for row in left] == ["ben", "ben"]
    await rows.close()
    assert await people.one("ben") == msgspec.structs.replace(ben, merges=[])
    # PostHog sends everything again.
    assert await people.events.save(heard) == [Saved(Status.ERASED, "")] * len(heard)
