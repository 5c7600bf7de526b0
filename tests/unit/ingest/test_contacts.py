"""Events yield the same contacts in any order, in any batches, and however often they repeat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.contacts.contact import ROW, Change, Contact, Key, Version
from services.ingest.contacts.identity_resolution import IdentityResolver, keys_of
from services.ingest.incoming_event import EventRef, IncomingEvent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def incoming(
    id: str = "e",
    user_id: str = "anna",
    *,
    at: float = 0,
    received: int = 100,
    email: str | None = None,
    **person: Any,
) -> IncomingEvent:
    return IncomingEvent(
        ref=EventRef("posthog", id),
        name="e",
        user_id=user_id,
        email=email,
        occurred_at=NOW + timedelta(seconds=at),
        received_at=NOW + timedelta(seconds=received),
        properties={},
        person_properties=person,
    )


class Memory:
    """A fake of the database: a batch reads the contacts that earlier batches wrote."""

    def __init__(self) -> None:
        self.contacts: dict[Any, Contact] = {}
        self.restated: dict[Any, Version] = {}
        self.keys: dict[Any, Any] = {}

    def apply(self, batch: Sequence[IncomingEvent]) -> list[Contact]:
        keys = {key for event in batch for key in keys_of(event)}
        owners = {key: self.keys[key] for key in keys if key in self.keys}
        rows = {Key(ROW, str(id)): id for id in self.contacts}
        owners |= {key: rows[key] for key in keys if key in rows}
        resolver = IdentityResolver(map(self.load, set(owners.values())), owners)
        attached = [resolver.resolve(event) for event in batch]
        self.save(*resolver.changed())
        merged = resolver.merged()
        self.keys = {key: merged.get(id, id) for key, id in self.keys.items()}
        self.keys |= resolver.new_keys()
        for loser in merged:
            self.contacts.pop(loser, None)
        return [resolver.survivor(id) for id in attached if id is not None]

    def load(self, id: UUID) -> Contact:
        """Read a contact, with the version that the latest repeat of its values gave them."""
        contact = self.contacts[id].copy()
        if id in self.restated:
            contact.restate(self.restated[id])
        return contact

    def save(
        self, whole: Sequence[Contact], seen: Sequence[tuple[Contact, Version | None]]
    ) -> None:
        """Write a contact as a whole, or only the columns that a repeat of its values changes."""
        for contact in whole:
            self.contacts[contact.id] = contact.copy()
            self.restated.pop(contact.id, None)
        for contact, version in seen:
            self.contacts[contact.id] = msgspec.structs.replace(
                self.contacts[contact.id],
                first_seen_at=contact.first_seen_at,
                last_seen_at=contact.last_seen_at,
            )
            if version is not None:
                self.restated[contact.id] = version

    @property
    def people(self) -> list[tuple[Any, ...]]:
        """The contacts without row ids and first external ids, which depend on the order."""
        keys_by_contact: dict[Any, set[Any]] = {}
        for key, id in self.keys.items():
            if key.kind != "row":
                keys_by_contact.setdefault(id, set()).add(key)
        return sorted(
            (
                sorted(keys_by_contact[id]),
                contact.email or "",
                sorted(contact.properties.items()),
                contact.first_seen_at,
                contact.last_seen_at,
            )
            for id, contact in self.contacts.items()
        )


events_of_people = st.lists(
    st.builds(
        incoming,
        id=st.uuids().map(str),
        user_id=st.sampled_from(["anna", "anna-phone", "ben", ""]),
        at=st.integers(-3, 3),
        received=st.integers(0, 2),
        email=st.sampled_from([None, "a@x.org", "b@x.org", "c@x.org"]),
        plan=st.sampled_from([None, "free", "pro"]),
        city=st.sampled_from([None, "Bern"]),
    ).filter(keys_of),
    max_size=12,
)


@given(events_of_people, st.data())
def test_any_order_repetition_and_batching_of_events_yields_the_same_contacts(
    events: list[IncomingEvent], data: st.DataObject
) -> None:
    straight = Memory()
    straight.apply(events)

    again = events + data.draw(
        st.lists(st.sampled_from(events), max_size=6) if events else st.just([])
    )
    shuffled = data.draw(st.permutations(again))
    scattered = Memory()
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        scattered.apply(shuffled[:size])
        shuffled = shuffled[size:]

    assert scattered.people == straight.people


@given(events_of_people)
def test_each_property_has_the_value_of_the_newest_event(events: list[IncomingEvent]) -> None:
    events = [
        incoming(e.ref.id, "anna", at=i, plan=e.person_properties["plan"])
        for i, e in enumerate(events)
    ]
    memory = Memory()
    memory.apply(list(reversed(events)))
    expected = events[-1].person_properties["plan"] if events else None
    assert [c.properties.get("plan") for c in memory.contacts.values()] == [expected] * bool(events)


def only(memory: Memory) -> Contact:
    (contact,) = memory.contacts.values()
    return contact


def test_a_late_event_changes_only_properties_without_a_newer_value() -> None:
    memory = Memory()
    memory.apply([incoming("new", at=10, email="new@x.org", plan="pro")])
    memory.apply([incoming("late", at=5, email="old@x.org", plan="free", city="Bern")])
    assert only(memory).properties == {"plan": "pro", "city": "Bern"}
    assert only(memory).email == "new@x.org"


def test_a_late_event_does_not_restore_a_removed_property() -> None:
    memory = Memory()
    memory.apply([incoming("gone", at=10, plan=None)])
    memory.apply([incoming("late", at=5, plan="free")])
    assert only(memory).properties == {}


def test_an_event_with_a_time_in_the_future_does_not_pin_its_values() -> None:
    memory = Memory()
    memory.apply([incoming("liar", at=10**9, received=1, plan="pro")])
    memory.apply([incoming("honest", at=2, received=3, plan="free")])
    assert only(memory).properties == {"plan": "free"}


def test_events_with_the_same_time_are_ordered_by_id() -> None:
    for order in (["a", "b"], ["b", "a"]):
        memory = Memory()
        for id in order:
            memory.apply([incoming(id, plan=id)])
        assert only(memory).properties == {"plan": "b"}


def test_an_event_without_an_email_keeps_the_contacts_email() -> None:
    memory = Memory()
    memory.apply([incoming("1", at=1, email="a@x.org"), incoming("2", at=2)])
    assert only(memory).email == "a@x.org"


def test_a_contact_with_an_external_id_survives_a_merge_with_an_older_one_without() -> None:
    memory = Memory()
    memory.apply([incoming("1", "", received=1, email="a@x.org")])
    memory.apply([incoming("2", "anna", received=2)])
    (contact,) = memory.apply([incoming("3", "anna", received=3, email="a@x.org")])
    assert contact.created_at == NOW + timedelta(seconds=2)
    assert contact.canonical_key == "anna"
    assert only(memory) == contact


def test_the_older_of_two_contacts_with_external_ids_survives_a_merge() -> None:
    memory = Memory()
    memory.apply([incoming("1", "young", received=9)])
    memory.apply([incoming("2", "old", received=1, email="a@x.org")])
    (contact,) = memory.apply([incoming("3", "young", email="a@x.org")])
    assert contact.canonical_key == "old"


def test_case_123_a_distinct_id_that_is_a_row_id_resolves_to_that_contact() -> None:
    memory = Memory()
    (first,) = memory.apply([incoming("1", "", email="a@x.org")])
    row_id = str(first.id)
    assert first.canonical_key == row_id
    (again,) = memory.apply([incoming("2", row_id.upper())])
    assert again.id == first.id
    assert again.external_id == row_id.upper()
    assert len(memory.contacts) == 1


def test_case_124_every_key_of_a_merged_contact_leads_to_the_survivor() -> None:
    memory = Memory()
    (lost,) = memory.apply([incoming("1", "", email="a@x.org")])
    row_id = str(lost.id)
    memory.apply([incoming("2", "anna")])
    memory.apply([incoming("3", "anna", email="a@x.org")])
    (by_row,) = memory.apply([incoming("4", row_id)])
    assert by_row.canonical_key == "anna"
    assert len(memory.contacts) == 1


def test_merges_in_one_batch_are_chained() -> None:
    memory = Memory()
    attached = memory.apply(
        [
            incoming("1", "a", received=1),
            incoming("2", "b", received=2, email="b@x.org"),
            incoming("3", "c", received=3, email="c@x.org"),
            incoming("4", "c", email="b@x.org"),
            incoming("5", "a", email="c@x.org"),
        ]
    )
    assert {contact.canonical_key for contact in attached} == {"a"}
    assert len(memory.contacts) == 1


def test_the_source_of_a_contact_is_that_of_its_first_event() -> None:
    memory = Memory()
    (contact,) = memory.apply([incoming("1")])
    assert contact.source == "posthog"


def test_a_placeholder_user_id_never_merges_two_contacts() -> None:
    for placeholder in ("null", "undefined", "[object Object]", "0", '"None"'):
        memory = Memory()
        first = memory.apply([incoming("1", placeholder, email="a@x.org")])
        second = memory.apply([incoming("2", placeholder, email="b@x.org")])
        assert first != second
        assert [contact.external_id for contact in memory.contacts.values()] == [None, None]


def test_an_event_with_only_a_placeholder_user_id_creates_no_contact() -> None:
    memory = Memory()
    assert memory.apply([incoming("1", "null", plan="pro")]) == []
    assert memory.contacts == {}
    # No key is looked up either: all such events would wait for the lock of the same key.
    assert keys_of(incoming("1", "null")) == []


def test_an_event_that_repeats_stored_values_writes_only_their_version() -> None:
    memory = Memory()
    tags = ["a", {"b": 1}]
    memory.apply([incoming("first", at=1, email="a@x.org", plan="pro", tags=tags)])
    row = only(memory)
    stored = memory.contacts[row.id]
    memory.apply([incoming("again", at=2, email="a@x.org", plan="pro", tags=tags)])
    assert memory.contacts[row.id].versions == stored.versions
    contact = memory.load(row.id)
    assert {contact.email_version, *contact.versions.values()} == {memory.restated[row.id]}
    memory.apply([incoming("between", at=1.5, email="b@x.org", plan="free")])
    assert (memory.load(row.id).email, memory.load(row.id).properties["plan"]) == ("a@x.org", "pro")


def test_an_event_that_repeats_only_some_values_leaves_the_version_of_the_others() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, email="a@x.org", plan="pro")])
    memory.apply([incoming("again", at=5, plan="pro")])
    memory.apply([incoming("moved", at=3, email="b@x.org")])
    assert memory.load(only(memory).id).email == "b@x.org"
    memory.apply([incoming("moved again", at=7, email="b@x.org")])
    memory.apply([incoming("upgraded", at=6, plan="free")])
    assert memory.load(only(memory).id).properties == {"plan": "free"}


def test_a_repeated_value_keeps_its_newer_version_when_a_late_event_writes_the_contact() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    memory.apply([incoming("again", at=5, plan="pro")])
    memory.apply([incoming("late", at=2, city="Bern")])
    memory.apply([incoming("between", at=3, city="Basel", plan="free")])
    assert memory.load(only(memory).id).properties == {"plan": "pro", "city": "Basel"}


def test_an_event_without_person_properties_changes_no_version() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    memory.apply([incoming("again", at=2, plan="pro")])
    memory.apply([incoming("silent", at=9)])
    contact = memory.load(only(memory).id)
    assert contact.versions["plan"][1] == "again"
    assert contact.last_seen_at == NOW + timedelta(seconds=9)


def test_values_that_are_equal_in_python_but_not_in_json_replace_each_other() -> None:
    for one, other in [(1, True), (1, 1.0), ([0], [False]), ({"a": 1}, {"a": 1.0})]:
        memory = Memory()
        memory.apply([incoming("one", at=1, value=one)])
        memory.apply([incoming("other", at=2, value=other)])
        value = memory.contacts[only(memory).id].properties["value"]
        assert msgspec.json.encode(value) == msgspec.json.encode(other)


def test_the_removal_of_a_property_is_written_although_no_other_value_changes() -> None:
    contact = memory_of("first", plan="pro")
    assert contact.apply(incoming("again", at=2, plan="pro")) is Change.VERSIONS
    assert contact.apply(incoming("gone", at=3, plan=None)) is Change.VALUES
    assert contact.apply(incoming("gone again", at=4, plan=None)) is Change.VALUES


def memory_of(id: str, **person: Any) -> Contact:
    memory = Memory()
    memory.apply([incoming(id, at=1, **person)])
    return memory.load(only(memory).id)


def test_a_contact_with_a_property_without_a_version_is_still_updated() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    row = memory.contacts[only(memory).id]
    # As a program other than ingest may write the table.
    row.properties["city"] = "Bern"
    memory.apply([incoming("again", at=2, plan="pro")])
    memory.apply([incoming("moved", at=3, city="Basel")])
    assert memory.load(row.id).properties == {"plan": "pro", "city": "Basel"}
