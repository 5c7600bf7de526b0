"""A contact: what is known about one person, and since when.

Email and every property are last-writer-wins registers. A register's version is the effective
time of the event that wrote it, and that event's id to order events of the same moment; the greater
version wins. So neither the order in which events arrive nor their repetition changes the result.
A removed property keeps its version. Without it, an older event that arrives late would restore the
property.

Most events say what is known already, which changes nothing but versions: the contact is restated.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from services.ingest.incoming_event import IncomingEvent

Version: TypeAlias = tuple[int, str]
"""Microseconds since 1970 (UTC), and what tells events of one moment apart."""

EXTERNAL = "external"
EMAIL = "email"
ROW = "row"

UNKNOWN: Version = 0, ""
"""Version of what no event said: everything that one says is newer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_CONTAINERS = frozenset({dict, list})
_sorted_json = msgspec.json.Encoder(order="sorted").encode


class Key(NamedTuple):
    """An identifier that leads to a contact; `kind` is `external`, `email` or `row`."""

    kind: str
    value: str


def sides(merge_id: int) -> tuple[str, str]:
    """Both sides of a merge's mark: the survivor's, and that of the contact split from it."""
    return f"{merge_id}+", f"{merge_id}-"


def opposite(side: str) -> str:
    """The other side of the same mark."""
    return f"{side[:-1]}{'-' if side.endswith('+') else '+'}"


def canonical_key(external_id: str | None, id: UUID) -> str:
    """The key that other services know a contact by (contract 5.5)."""
    return external_id if external_id is not None else str(id)


def version_of(event: IncomingEvent) -> Version:
    """Version of everything that `event` says about its person."""
    return version_at(event.effective_at, event.ref.id)


def version_at(moment: datetime, event_id: str) -> Version:
    """Version of what an event said at a moment."""
    return (moment - _EPOCH) // _MICROSECOND, event_id


def moment_of(version: Version) -> datetime:
    """The time in a version."""
    return _EPOCH + version[0] * _MICROSECOND


class Change(IntEnum):
    """What an event changes about the address and the properties of a contact."""

    NOTHING = 0
    VERSIONS = 1
    """What it says is known, and is said last by this event now."""
    VALUES = 2


class Contact(msgspec.Struct, kw_only=True):
    """One person. Changes only through `apply` and `merge`."""

    id: UUID
    source: str
    """Source of the event that created the contact."""
    created_at: datetime
    first_seen_at: datetime
    last_seen_at: datetime
    external_id: str | None = None
    """The first external id it got; later ones are keys only."""
    email: str | None = None
    email_version: Version | None = None
    properties: Properties = {}
    timezone: str | None = None
    """IANA zone; never overwritten once it is known."""
    versions: dict[str, Version] = {}
    """Versions of the properties, removed ones included."""
    kept_apart: list[str] = []
    """Sides of the marks of merges that an operator undid, see `is_kept_apart_from`."""

    def __post_init__(self) -> None:
        """Give what an operator wrote into the table a version."""
        if not self.properties.keys() <= self.versions.keys():
            self.versions = {**dict.fromkeys(self.properties, UNKNOWN), **self.versions}

    @property
    def canonical_key(self) -> str:
        """The key that other services know this contact by (contract 5.5)."""
        return canonical_key(self.external_id, self.id)

    def copy(self) -> Contact:
        """The contact as it is now; values of properties never change and are shared."""
        return msgspec.structs.replace(
            self, properties=dict(self.properties), versions=dict(self.versions)
        )

    def apply(self, event: IncomingEvent, *, email: bool = True) -> Change:
        """Write everything in `event` that is newer than what is known.

        Args:
            event: one of this contact's.
            email: whether its address is this contact's, too.

        Returns:
            What became of the address and the properties.
        """
        version = version_of(event)
        change = Change.NOTHING
        if email and event.email is not None:
            change = self._write_email(event.email, version)
        for name, value in event.person_properties.items():
            if (written := self._write(name, value, version)) > change:
                change = written
        at = event.effective_at
        self.first_seen_at = min(self.first_seen_at, at)
        self.last_seen_at = max(self.last_seen_at, at)
        return change

    def restate(self, version: Version) -> None:
        """Take an event for the last that said all of what is known, as it is."""
        for name in self.properties:
            self.versions[name] = max(self.versions[name], version)
        if self.email_version is not None:
            self.email_version = max(self.email_version, version)

    def restated(self) -> Version | None:
        """The version of the address and of every property, if they all have the same one."""
        versions = {self.versions[name] for name in self.properties}
        if self.email_version is not None:
            versions.add(self.email_version)
        return versions.pop() if len(versions) == 1 else None

    def merge(self, other: Contact) -> None:
        """Write everything of `other` that is newer than what is known."""
        if other.email is not None and other.email_version is not None:
            self._write_email(other.email, other.email_version)
        for name, version in other.versions.items():
            self._write(name, other.properties.get(name), version)
        self.timezone = self.timezone or other.timezone
        self.kept_apart = sorted({*self.kept_apart, *other.kept_apart})
        self.first_seen_at = min(self.first_seen_at, other.first_seen_at)
        self.last_seen_at = max(self.last_seen_at, other.last_seen_at)

    def is_kept_apart_from(self, other: Contact) -> bool:
        """Whether an operator said that the two are different people.

        Merges hand marks on, so that it also holds for whom either is part of by now.
        """
        return any(opposite(side) in other.kept_apart for side in self.kept_apart)

    def takes_precedence_over(self, other: Contact) -> bool:
        """Whether this contact survives a merge of the two (contract 5.5)."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple[bool, datetime, UUID]:
        return self.external_id is None, self.created_at, self.id

    def _write_email(self, email: str, version: Version) -> Change:
        if self.email_version is not None and version <= self.email_version:
            return Change.NOTHING
        change = Change.VERSIONS if email == self.email else Change.VALUES
        self.email, self.email_version = email, version
        return change

    def _write(self, name: str, value: object, version: Version) -> Change:
        known = self.versions.get(name)
        if known is not None and version <= known:
            return Change.NOTHING
        self.versions[name] = version
        if value is None:
            self.properties.pop(name, None)
            # Also of what was gone before: its version is in no other place.
            return Change.VALUES
        if name in self.properties and _is_same(self.properties[name], value):
            return Change.VERSIONS
        self.properties[name] = value
        return Change.VALUES


def _is_same(one: object, other: object) -> bool:
    """Whether two values are the same JSON; Python takes 1, 1.0 and true for equal."""
    if one.__class__ is not other.__class__ or one != other:
        return False
    return one.__class__ not in _CONTAINERS or _sorted_json(one) == _sorted_json(other)
