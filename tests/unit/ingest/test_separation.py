"""Merges are undone in any order, and each of the people is left with what is theirs."""

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
"""When the events that merge happen: after everybody's first event, and before their last ones."""


def said(user_id: str, at: int, email: str | None = None, **person: Any) -> IncomingEvent:
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


class Ledger:
    """Stands in for the database: contacts, what leads to them, and merges."""

    def __init__(self) -> None:
        self.contacts: dict[UUID, Contact] = {}
        self.keys: dict[Key, UUID] = {}
        self.merges: dict[int, MergeRecord] = {}
        self.undone: dict[int, MergeRecord] = {}

    def hear(self, *batch: IncomingEvent) -> None:
        wanted = {key for event in batch for key in keys_of(event)}
        owners = {key: self.keys[key] for key in wanted if key in self.keys}
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
        self.contacts |= {one.id: one for one in [*whole, *(contact for contact, _ in seen)]}
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
            chain |= {one.survivor_id for one in self.merges.values() if one.loser.id in chain}
        parts = [one for one in self.merges.values() if one.survivor_id in chain]
        undo(current, record, [one for one in parts if one is not record])
        self.contacts[record.loser.id] = record.loser
        for key in record.keys:
            if self.keys.get(Key(key.kind, key.value)) == current.id:
                self.keys[Key(key.kind, key.value)] = record.loser.id
        del self.keys[row]
        for one in self.merges.values():
            assert row.value not in {key.value for key in one.keys}
        self.undone[number] = self.merges.pop(number)

    def people(self) -> dict[UUID, set[str]]:
        """The names of whom each contact is made of."""
        found: dict[UUID, set[str]] = {id: set() for id in self.contacts}
        for key, id in self.keys.items():
            if key.kind == EXTERNAL:
                found[id].add(key.value)
        return found


def _written(contact: Contact) -> Contact:
    return msgspec.json.decode(msgspec.json.encode(contact), type=Contact)


class Story:
    """People who say something each, and are merged by events that name two of them."""

    def __init__(
        self,
        created: Sequence[str],
        saying: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        one_batch: bool = False,
    ) -> None:
        self.ledger = Ledger()
        self.at = {name: number for number, name in enumerate(saying, 1)}
        for name in created:
            at = self.at[name]
            first = said(name, at, address(name), p=name, **{f"of_{name}": name})
            # Created in this order, whatever the order of what they say.
            received = NOW + timedelta(days=1, seconds=created.index(name))
            self.ledger.hear(msgspec.structs.replace(first, received_at=received))
            self.ledger.hear(said(name, 100 + at))
            self.ledger.contacts[self.ledger.keys[Key(EXTERNAL, name)]].timezone = ZONES[name]
        self.leaves = {
            name: self.ledger.contacts[self.ledger.keys[Key(EXTERNAL, name)]].copy()
            for name in created
        }
        events = [
            said(one, _BETWEEN + number, address(other))
            for number, (one, other) in enumerate(merges)
        ]
        for batch in [events] if one_batch else [[event] for event in events]:
            self.ledger.hear(*batch)

    def check(self) -> None:
        """Everybody is what the people in them are together, and nothing of anybody else."""
        for id, names in self.ledger.people().items():
            contact = self.ledger.contacts[id]
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
                for key, owner in self.ledger.keys.items()
                if owner == id and key.kind == EMAIL
            }
            assert addresses == set(map(address, names))

    def check_all_undone(self) -> None:
        """Everybody is who they were, and apart from whom they were split from."""
        for name, leaf in self.leaves.items():
            contact = self.ledger.contacts[leaf.id]
            assert (contact.properties, contact.email, contact.timezone) == (
                leaf.properties,
                address(name),
                leaf.timezone,
            )
            marks = {
                side
                for number, one in self.ledger.undone.items()
                for side, id in zip(sides(number), (one.survivor_id, one.loser.id), strict=True)
                if id == leaf.id
            }
            assert set(contact.kept_apart) == marks


def stories_of_three() -> Iterator[tuple[Any, ...]]:
    # What the first one is called makes no difference.
    for created in (("a", "b", "c"), ("a", "c", "b")):
        for saying in itertools.permutations("abc"):
            for merges in itertools.product(itertools.permutations("abc", 2), repeat=2):
                yield created, saying, merges


def stories_of_four() -> Iterator[tuple[Any, ...]]:
    chance = random.Random(5)  # noqa: S311
    for _ in range(600):
        created, saying = chance.sample("abcd", 4), chance.sample("abcd", 4)
        yield created, saying, [tuple(chance.sample("abcd", 2)) for _ in range(3)]


@pytest.mark.parametrize("one_batch", [False, True])
@pytest.mark.parametrize(("stories", "merges"), [(stories_of_three, 2), (stories_of_four, 3)])
def test_undone_in_any_order(
    stories: Callable[[], Iterator[tuple[Any, ...]]], merges: int, one_batch: bool
) -> None:
    looked_at = 0
    for told in stories():
        for order in itertools.permutations(range(1, merges + 1)):
            story = Story(*told, one_batch=one_batch)
            if len(story.ledger.merges) < merges:
                break
            looked_at += 1
            try:
                story.check()
                for number in order:
                    story.ledger.undo(number)
                    story.check()
                story.check_all_undone()
            except AssertionError as error:
                raise AssertionError(f"{told}, undone in order {order}") from error
    assert looked_at > 500


def test_an_address_of_an_earlier_version_may_be_written_in_another_way() -> None:
    ledger = Ledger()
    ledger.hear(said("anna", 1, "anna@b.com"))
    # The younger contact, so that it is the one that is absorbed.
    later = NOW + timedelta(days=2)
    ledger.hear(msgspec.structs.replace(said("ben", 2, "ben@b.com"), received_at=later))
    (anna, ben) = ledger.contacts.values()
    ben.email = "Ben@B.com"
    ledger.hear(said("ben", 0, "anna@b.com"))
    assert ledger.contacts[anna.id].email == "Ben@B.com"
    ledger.undo(1)
    assert ledger.contacts[anna.id].email == "anna@b.com"
