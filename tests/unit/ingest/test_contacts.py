"""Contacts are the same in whatever order, batches and repetitions events arrive."""

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
    """Stands in for the database: what one batch leaves, the next one finds."""

    def __init__(self) -> None:
        self.contacts: dict[Any, Contact] = {}
        self.restated: dict[Any, Version] = {}
        self.keys: dict[Any, Any] = {}

    def apply(self, batch: Sequence[IncomingEvent]) -> list[Contact]:
        wanted = {key for one in batch for key in keys_of(one)}
        owners = {key: self.keys[key] for key in wanted if key in self.keys}
        rows = {Key(ROW, str(id)): id for id in self.contacts}
        owners |= {key: rows[key] for key in wanted if key in rows}
        resolver = IdentityResolver(map(self.load, set(owners.values())), owners)
        attached = [resolver.resolve(one) for one in batch]
        self.save(*resolver.changed())
        merged = resolver.merged()
        self.keys = {key: merged.get(id, id) for key, id in self.keys.items()}
        self.keys |= resolver.new_keys()
        for loser in merged:
            self.contacts.pop(loser, None)
        return [resolver.survivor(id) for id in attached if id is not None]

    def load(self, id: UUID) -> Contact:
        """What a row says, with the version that it was restated with."""
        contact = self.contacts[id].copy()
        if id in self.restated:
            contact.restate(self.restated[id])
        return contact

    def save(
        self, whole: Sequence[Contact], seen: Sequence[tuple[Contact, Version | None]]
    ) -> None:
        """Write only what the statements for each of the two write."""
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
        """Who is known, without what depends on the order: row ids and first external ids."""
        known: dict[Any, set[Any]] = {}
        for key, id in self.keys.items():
            if key.kind != "row":
                known.setdefault(id, set()).add(key)
        return sorted(
            (
                sorted(known[id]),
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
def test_any_order_repetition_and_batching_gives_the_same_people(
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
def test_the_newest_event_wins_per_property(events: list[IncomingEvent]) -> None:
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


def test_a_late_event_changes_only_what_is_not_known_better() -> None:
    memory = Memory()
    memory.apply([incoming("new", at=10, email="new@x.org", plan="pro")])
    memory.apply([incoming("late", at=5, email="old@x.org", plan="free", city="Bern")])
    assert only(memory).properties == {"plan": "pro", "city": "Bern"}
    assert only(memory).email == "new@x.org"


def test_a_late_event_does_not_bring_a_removed_property_back() -> None:
    memory = Memory()
    memory.apply([incoming("gone", at=10, plan=None)])
    memory.apply([incoming("late", at=5, plan="free")])
    assert only(memory).properties == {}


def test_a_clock_in_the_future_does_not_pin_a_value() -> None:
    memory = Memory()
    memory.apply([incoming("liar", at=10**9, received=1, plan="pro")])
    memory.apply([incoming("honest", at=2, received=3, plan="free")])
    assert only(memory).properties == {"plan": "free"}


def test_events_of_one_moment_are_ordered_by_id() -> None:
    for order in (["a", "b"], ["b", "a"]):
        memory = Memory()
        for id in order:
            memory.apply([incoming(id, plan=id)])
        assert only(memory).properties == {"plan": "b"}


def test_an_unknown_email_forgets_nothing() -> None:
    memory = Memory()
    memory.apply([incoming("1", at=1, email="a@x.org"), incoming("2", at=2)])
    assert only(memory).email == "a@x.org"


def test_a_contact_with_an_external_id_survives_an_older_one_without() -> None:
    memory = Memory()
    memory.apply([incoming("1", "", received=1, email="a@x.org")])
    memory.apply([incoming("2", "anna", received=2)])
    (contact,) = memory.apply([incoming("3", "anna", received=3, email="a@x.org")])
    assert contact.created_at == NOW + timedelta(seconds=2)
    assert contact.canonical_key == "anna"
    assert only(memory) == contact


def test_of_two_with_external_ids_the_older_survives() -> None:
    memory = Memory()
    memory.apply([incoming("1", "young", received=9)])
    memory.apply([incoming("2", "old", received=1, email="a@x.org")])
    (contact,) = memory.apply([incoming("3", "young", email="a@x.org")])
    assert contact.canonical_key == "old"


def test_case_123_a_row_id_as_distinct_id_is_that_contact() -> None:
    memory = Memory()
    (known,) = memory.apply([incoming("1", "", email="a@x.org")])
    row_id = str(known.id)
    assert known.canonical_key == row_id
    (again,) = memory.apply([incoming("2", row_id.upper())])
    assert again.id == known.id
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


def test_merges_in_one_batch_may_chain() -> None:
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


def test_provenance_is_the_first_source() -> None:
    memory = Memory()
    (contact,) = memory.apply([incoming("1")])
    assert contact.source == "posthog"


def test_an_id_of_nobody_never_joins_two_people() -> None:
    for nobody in ("null", "undefined", "[object Object]", "0", '"None"'):
        memory = Memory()
        first = memory.apply([incoming("1", nobody, email="a@x.org")])
        second = memory.apply([incoming("2", nobody, email="b@x.org")])
        assert first != second
        assert [one.external_id for one in memory.contacts.values()] == [None, None]


def test_an_event_of_nobody_makes_no_contact() -> None:
    memory = Memory()
    assert memory.apply([incoming("1", "null", plan="pro")]) == []
    assert memory.contacts == {}
    # Nor is one looked for: those of everybody would wait for the same lock.
    assert keys_of(incoming("1", "null")) == []


def test_what_is_known_is_written_with_its_version_only() -> None:
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


def test_what_is_known_for_longer_than_the_rest_keeps_its_version() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    memory.apply([incoming("again", at=5, plan="pro")])
    memory.apply([incoming("late", at=2, city="Bern")])
    memory.apply([incoming("between", at=3, city="Basel", plan="free")])
    assert memory.load(only(memory).id).properties == {"plan": "pro", "city": "Basel"}


def test_an_event_that_says_nothing_changes_no_version() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    memory.apply([incoming("again", at=2, plan="pro")])
    memory.apply([incoming("silent", at=9)])
    contact = memory.load(only(memory).id)
    assert contact.versions["plan"][1] == "again"
    assert contact.last_seen_at == NOW + timedelta(seconds=9)


def test_values_that_python_takes_for_equal_are_different_json() -> None:
    for one, other in [(1, True), (1, 1.0), ([0], [False]), ({"a": 1}, {"a": 1.0})]:
        memory = Memory()
        memory.apply([incoming("one", at=1, value=one)])
        memory.apply([incoming("other", at=2, value=other)])
        value = memory.contacts[only(memory).id].properties["value"]
        assert msgspec.json.encode(value) == msgspec.json.encode(other)


def test_a_removed_property_is_written_although_the_rest_is_known() -> None:
    contact = memory_of("first", plan="pro")
    assert contact.apply(incoming("again", at=2, plan="pro")) is Change.VERSIONS
    assert contact.apply(incoming("gone", at=3, plan=None)) is Change.VALUES
    assert contact.apply(incoming("gone again", at=4, plan=None)) is Change.VALUES


def memory_of(id: str, **person: Any) -> Contact:
    memory = Memory()
    memory.apply([incoming(id, at=1, **person)])
    return memory.load(only(memory).id)


def test_a_property_without_a_version_does_not_stop_its_contact() -> None:
    memory = Memory()
    memory.apply([incoming("first", at=1, plan="pro")])
    row = memory.contacts[only(memory).id]
    # As somebody may write it who fills the table by other means.
    row.properties["city"] = "Bern"
    memory.apply([incoming("again", at=2, plan="pro")])
    memory.apply([incoming("moved", at=3, city="Basel")])
    assert memory.load(row.id).properties == {"plan": "pro", "city": "Basel"}
