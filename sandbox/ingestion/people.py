"""Persons with their distinct ids and properties.

Follows nodejs/src/worker/ingestion/persons/ (person-merge-service.ts,
person-property-service.ts). When two persons are merged, the properties of the remaining person
take precedence. `$identify` and `$create_alias` do not merge an identified person into another.
A person is identified once a second distinct id was merged; `$identify` alone does not suffice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from sandbox.clock import Clock, iso

DISPLAY_NAMES = ("email", "name", "username")


class Person(msgspec.Struct, kw_only=True):
    """A person with all its distinct ids."""

    uuid: str
    distinct_ids: list[str]
    properties: dict[str, Any]
    created_at: str
    is_identified: bool

    def name(self, distinct_id: str) -> str:
        """Return the display name (`getPersonDisplayName` in nodejs/src/cdp/utils.ts)."""
        for key in DISPLAY_NAMES:
            if value := self.properties.get(key):
                return value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return distinct_id


class People:
    """All persons."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_distinct_id: dict[str, Person] = {}

    def all(self) -> list[Person]:
        """Return every person once, newest first."""
        unique = {person.uuid: person for person in self._by_distinct_id.values()}
        return list(reversed(unique.values()))

    def find(self, distinct_id: str) -> Person | None:
        """Return the person with a distinct id."""
        return self._by_distinct_id.get(distinct_id)

    def shown_without_profile(self, distinct_id: str) -> Person:
        """Return the person of an event without person processing, as destinations receive it.

        It has no properties. Its id is that of the stored person, or without one is derived from
        the distinct id (process-personless-step.ts).
        """
        person = self.find(distinct_id)
        return Person(
            uuid=person.uuid if person else str(uuid.uuid5(uuid.NAMESPACE_OID, distinct_id)),
            distinct_ids=[distinct_id],
            properties={},
            created_at=person.created_at if person else "1970-01-01T00:00:05Z",
            is_identified=False,
        )

    def get_or_create(self, distinct_id: str) -> Person:
        """Return the person with a distinct id, creating it if necessary."""
        person = self._by_distinct_id.get(distinct_id)
        if person is None:
            person = Person(
                uuid=str(uuid.uuid4()),
                distinct_ids=[distinct_id],
                properties={},
                created_at=iso(self._clock.now()),
                is_identified=False,
            )
            self._by_distinct_id[distinct_id] = person
        return person

    def merge(self, into: str, absorbed: str, *, force: bool = False) -> Person:
        """Merge two distinct ids into one identified person.

        If only one of them has a person, that person gets the other distinct id. An identified
        person is not merged into another, unless `force` is given (`$merge_dangerously`).
        """
        person, other = self.find(into), self.find(absorbed)
        if person is None and other is not None:
            person = other
            self._attach(person, [into])
        elif person is None or other is None:
            person = self.get_or_create(into)
            self._attach(person, [absorbed])
        elif other is not person and (force or not other.is_identified):
            person.properties = {**other.properties, **person.properties}
            person.created_at = min(person.created_at, other.created_at)
            self._attach(person, other.distinct_ids)
        person.is_identified = True
        return person

    def remove(self, distinct_id: str) -> Person | None:
        """Delete the person with a distinct id; None if there is none."""
        person = self._by_distinct_id.get(distinct_id)
        if person is not None:
            for id in person.distinct_ids:
                self._by_distinct_id.pop(id, None)
        return person

    def write(
        self, person: Person, *, set: dict[str, Any], once: dict[str, Any], unset: Iterable[str]
    ) -> None:
        """Change properties: apply `once`, then `set`, then `unset` for properties set before."""
        removed = [key for key in unset if key in person.properties]
        person.properties = {**once, **person.properties, **set}
        for key in removed:
            person.properties.pop(key)

    def _attach(self, person: Person, distinct_ids: list[str]) -> None:
        for distinct_id in distinct_ids:
            self._by_distinct_id[distinct_id] = person
            person.distinct_ids.append(distinct_id)
