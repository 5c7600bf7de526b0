"""Merges are undone in any order, and each contact keeps exactly its own data."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hogsend.contract.contacts import ContactKey
from services.ingest.contacts.contact import EMAIL, EXTERNAL, ROW, Contact, Key, sides
from services.ingest.contacts.identity_resolution import IdentityResolver, keys_of
from services.ingest.contacts.separation import MergeRecord, undo
from services.ingest.incoming_event import EventRef, IncomingEvent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = {"a": None, "b": "Europe/Rome", "c": "Europe/Rome", "d": "Asia/Tokyo"}
_BETWEEN = 50
"""Time of the first merging event: after each person's first event, and before their last."""


def event_of(user_id: str, at: int, email: str | None = None, **person: Any) -> IncomingEvent:
    return IncomingEvent(
        ref=EventRef("posthog", f"{user_id}{at}{email}"),
        name="e",
        user_id=user_id,
        email=email,
        occurred_at=NOW + timedelta(seconds=at),
        received_at=NOW + timedelta(days=1),
        properties={},
        person_properties=person,
    )


def address(name: str) -> str:
    return f"{name}@b.com"


class Store:
    """A fake of the database: contacts, their keys, and merges."""

    def __init__(self) -> None:
        self.contacts: dict[UUID, Contact] = {}
        self.keys: dict[Key, UUID] = {}
        self.merges: dict[int, MergeRecord] = {}
        self.undone: dict[int, MergeRecord] = {}

    def save(self, *batch: IncomingEvent) -> None:
        keys = {key for event in batch for key in keys_of(event)}
        owners = {key: self.keys[key] for key in keys if key in self.keys}
        loaded = [self.contacts[id].copy() for id in set(owners.values())]
        resolver = IdentityResolver(loaded, owners)
        for event in batch:
            resolver.resolve(event)
        for merge in resolver.merges():
            number = len(self.merges) + len(self.undone) + 1
            stored = [key for key, id in self.keys.items() if id in merge.parts]
            self.merges[number] = MergeRecord(
                number,
                merge.survivor.id,
                _written(merge.loser),
                _written(merge.survivor),
                msgspec.convert(
                    [key._asdict() for key in [*stored, *merge.new_keys]], list[ContactKey]
                ),
            )
        whole, seen = resolver.changed()
        self.contacts |= {
            contact.id: contact for contact in [*whole, *(contact for contact, _ in seen)]
        }
        self.keys |= resolver.new_keys()
        for loser, survivor in resolver.merged().items():
            self.keys = {key: survivor if id == loser else id for key, id in self.keys.items()}
            self.contacts.pop(loser, None)

    def undo(self, number: int) -> None:
        record = self.merges[number]
        row = Key(ROW, str(record.loser.id))
        current = self.contacts[self.keys[row]]
        chain, size = {record.survivor_id}, 0
        while len(chain) > size:
            size = len(chain)
            chain |= {
                merge.survivor_id for merge in self.merges.values() if merge.loser.id in chain
            }
        parts = [merge for merge in self.merges.values() if merge.survivor_id in chain]
        undo(current, record, [merge for merge in parts if merge is not record])
        self.contacts[record.loser.id] = record.loser
        for key in record.keys:
            if self.keys.get(Key(key.kind, key.value)) == current.id:
                self.keys[Key(key.kind, key.value)] = record.loser.id
        del self.keys[row]
        for merge in self.merges.values():
            assert row.value not in {key.value for key in merge.keys}
        self.undone[number] = self.merges.pop(number)

    def people(self) -> dict[UUID, set[str]]:
        """The external ids of the people that each contact consists of."""
        people: dict[UUID, set[str]] = {id: set() for id in self.contacts}
        for key, id in self.keys.items():
            if key.kind == EXTERNAL:
                people[id].add(key.value)
        return people


def _written(contact: Contact) -> Contact:
    return msgspec.json.decode(msgspec.json.encode(contact), type=Contact)


class Story:
    """People with events of their own, whose contacts are merged by events that name two people."""

    def __init__(
        self,
        created: Sequence[str],
        event_order: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        one_batch: bool = False,
    ) -> None:
        self.store = Store()
        self.at = {name: number for number, name in enumerate(event_order, 1)}
        for name in created:
            at = self.at[name]
            first = event_of(name, at, address(name), p=name, **{f"of_{name}": name})
            # The contacts are created in this order, whatever the times of their events.
            received = NOW + timedelta(days=1, seconds=created.index(name))
            self.store.save(msgspec.structs.replace(first, received_at=received))
            self.store.save(event_of(name, 100 + at))
            self.store.contacts[self.store.keys[Key(EXTERNAL, name)]].timezone = ZONES[name]
        self.unmerged = {
            name: self.store.contacts[self.store.keys[Key(EXTERNAL, name)]].copy()
            for name in created
        }
        events = [
            event_of(first, _BETWEEN + number, address(second))
            for number, (first, second) in enumerate(merges)
        ]
        for batch in [events] if one_batch else [[event] for event in events]:
            self.store.save(*batch)

    def check(self) -> None:
        """Check that each contact has all data of the people it consists of, and no other data."""
        for id, names in self.store.people().items():
            contact = self.store.contacts[id]
            latest = max(names, key=self.at.__getitem__)
            assert contact.properties == {"p": latest} | {f"of_{name}": name for name in names}
            assert contact.versions.keys() == contact.properties.keys()
            assert contact.email in set(map(address, names))
            first, last = min(map(self.at.get, names)), max(map(self.at.get, names))  # type: ignore[type-var]
            assert (contact.first_seen_at, contact.last_seen_at) == (
                NOW + timedelta(seconds=first or 0),
                NOW + timedelta(seconds=100 + (last or 0)),
            )
            zones = {ZONES[name] for name in names} - {None}
            assert contact.timezone in (zones or {None})
            addresses = {
                key.value
                for key, owner in self.store.keys.items()
                if owner == id and key.kind == EMAIL
            }
            assert addresses == set(map(address, names))

    def check_all_undone(self) -> None:
        """Check that each contact is as before the merges, and marked as separated."""
        for name, original in self.unmerged.items():
            contact = self.store.contacts[original.id]
            assert (contact.properties, contact.email, contact.timezone) == (
                original.properties,
                address(name),
                original.timezone,
            )
            marks = {
                side
                for number, merge in self.store.undone.items()
                for side, id in zip(sides(number), (merge.survivor_id, merge.loser.id), strict=True)
                if id == original.id
            }
            assert set(contact.kept_apart) == marks


def stories_of_three() -> Iterator[tuple[Any, ...]]:
    # Which name the first person has makes no difference.
    for created in (("a", "b", "c"), ("a", "c", "b")):
        for event_order in itertools.permutations("abc"):
            for merges in itertools.product(itertools.permutations("abc", 2), repeat=2):
                yield created, event_order, merges


def stories_of_four() -> Iterator[tuple[Any, ...]]:
    chance = random.Random(5)  # noqa: S311
    for _ in range(600):
        created, event_order = chance.sample("abcd", 4), chance.sample("abcd", 4)
        yield created, event_order, [tuple(chance.sample("abcd", 2)) for _ in range(3)]


@pytest.mark.parametrize("one_batch", [False, True])
@pytest.mark.parametrize(("stories", "merges"), [(stories_of_three, 2), (stories_of_four, 3)])
def test_merges_that_are_undone_in_any_order_restore_the_contacts(
    stories: Callable[[], Iterator[tuple[Any, ...]]], merges: int, one_batch: bool
) -> None:
    checked = 0
    for case in stories():
        for order in itertools.permutations(range(1, merges + 1)):
            story = Story(*case, one_batch=one_batch)
            if len(story.store.merges) < merges:
                break
            checked += 1
            try:
                story.check()
                for number in order:
                    story.store.undo(number)
                    story.check()
                story.check_all_undone()
            except AssertionError as error:
                raise AssertionError(f"{case}, undone in order {order}") from error
    assert checked > 500


def test_a_merge_is_undone_although_an_earlier_version_stored_the_email_unfolded() -> None:
    store = Store()
    store.save(event_of("anna", 1, "anna@b.com"))
    # Ben's contact is younger, so it is merged into Anna's.
    later = NOW + timedelta(days=2)
    store.save(msgspec.structs.replace(event_of("ben", 2, "ben@b.com"), received_at=later))
    (anna, ben) = store.contacts.values()
    ben.email = "Ben@B.com"
    store.save(event_of("ben", 0, "anna@b.com"))
    assert store.contacts[anna.id].email == "Ben@B.com"
    store.undo(1)
    assert store.contacts[anna.id].email == "anna@b.com"
