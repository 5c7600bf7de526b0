"""A contact: what is known about one person.

Email and every property are last-writer-wins registers. A register's version is the effective
time of the event that wrote it, and that event's id to order events of the same time; the greater
version wins. So neither the order in which events arrive nor their repetition changes the result.
A removed property keeps its version. Without it, an older event that arrives late would restore the
property.

Most events repeat values that are stored already, which changes nothing but versions. If an event
repeats all of them, the contact is restated: it has one version for all its registers.
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
"""Microseconds since 1970 (UTC), and the event's id, which orders events of the same time."""

EXTERNAL = "external"
EMAIL = "email"
ROW = "row"

UNKNOWN: Version = 0, ""
"""Version of a value that no event wrote; any event's version is greater."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_CONTAINERS = frozenset({dict, list})
_sorted_json = msgspec.json.Encoder(order="sorted").encode


class Key(NamedTuple):
    """An identifier of a contact; `kind` is `external`, `email` or `row`."""

    kind: str
    value: str


def sides(merge_id: int) -> tuple[str, str]:
    """The two sides of an undone merge's mark: the survivor's, and the split contact's."""
    return f"{merge_id}+", f"{merge_id}-"


def opposite(side: str) -> str:
    """Return the other side of the mark that a side belongs to."""
    return f"{side[:-1]}{'-' if side.endswith('+') else '+'}"


def canonical_key(external_id: str | None, id: UUID) -> str:
    """The key by which other services identify a contact (contract 5.5)."""
    return external_id if external_id is not None else str(id)


def version_at(moment: datetime, event_id: str) -> Version:
    """The version of the values that an event at a time writes."""
    return (moment - _EPOCH) // _MICROSECOND, event_id


def moment_of(version: Version) -> datetime:
    """The time in a version."""
    return _EPOCH + version[0] * _MICROSECOND


class Change(IntEnum):
    """What an event changes of the address and the properties of a contact."""

    NOTHING = 0
    VERSIONS = 1
    """The event repeats stored values; their versions are now its own."""
    VALUES = 2
    """The event changes values."""


class Contact(msgspec.Struct, kw_only=True):
    """One person. Events change a contact through `apply`, merges through `merge`."""

    id: UUID
    source: str
    """Source of the event that created the contact."""
    created_at: datetime
    first_seen_at: datetime
    last_seen_at: datetime
    external_id: str | None = None
    """The contact's first external id; later ones are keys only."""
    email: str | None = None
    email_version: Version | None = None
    properties: Properties = {}
    timezone: str | None = None
    """IANA zone; never overwritten."""
    versions: dict[str, Version] = {}
    """Versions of the properties, removed ones included."""
    kept_apart: list[str] = []
    """Sides of the marks of merges that an operator undid; see `is_kept_apart_from`."""

    def __post_init__(self) -> None:
        """Give properties without a version one: an operator wrote them into the table."""
        if not self.properties.keys() <= self.versions.keys():
            self.versions = {**dict.fromkeys(self.properties, UNKNOWN), **self.versions}

    @property
    def canonical_key(self) -> str:
        """The key by which other services identify this contact (contract 5.5)."""
        return canonical_key(self.external_id, self.id)

    def copy(self) -> Contact:
        """Copy the contact; the values of properties are shared, because they are never changed."""
        return msgspec.structs.replace(
            self, properties=dict(self.properties), versions=dict(self.versions)
        )

    def apply(self, event: IncomingEvent, *, email: bool = True) -> Change:
        """Write the values of `event` that are newer than the stored ones.

        Args:
            event: an event of this contact.
            email: whether the event's address is this contact's.

        Returns:
            What the event changed of the address and the properties.
        """
        at = event.effective_at
        version, change = version_at(at, event.ref.id), Change.NOTHING
        if email and event.email is not None:
            change = self._write_email(event.email, version)
        for name, value in event.person_properties.items():
            if (written := self._write(name, value, version)) > change:
                change = written
        self.first_seen_at = min(self.first_seen_at, at)
        self.last_seen_at = max(self.last_seen_at, at)
        return change

    def restate(self, version: Version) -> None:
        """Raise the versions of the address and all properties to `version`, if it is greater."""
        for name in self.properties:
            self.versions[name] = max(self.versions[name], version)
        if self.email_version is not None:
            self.email_version = max(self.email_version, version)

    def common_version(self) -> Version | None:
        """Return the version of the address and all properties; None unless they have the same."""
        versions = {self.versions[name] for name in self.properties}
        if self.email_version is not None:
            versions.add(self.email_version)
        return versions.pop() if len(versions) == 1 else None

    def merge(self, other: Contact) -> None:
        """Write the values of `other` that are newer than this contact's."""
        if other.email is not None and other.email_version is not None:
            self._write_email(other.email, other.email_version)
        for name, version in other.versions.items():
            self._write(name, other.properties.get(name), version)
        self.timezone = self.timezone or other.timezone
        self.kept_apart = sorted({*self.kept_apart, *other.kept_apart})
        self.first_seen_at = min(self.first_seen_at, other.first_seen_at)
        self.last_seen_at = max(self.last_seen_at, other.last_seen_at)

    def is_kept_apart_from(self, other: Contact) -> bool:
        """Whether an operator decided, by undoing a merge, that the two are different people.

        A merge combines the marks of both contacts. So the decision also applies to contacts into
        which either of the two was merged later.
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
        existing = self.versions.get(name)
        if existing is not None and version <= existing:
            return Change.NOTHING
        self.versions[name] = version
        if value is None:
            self.properties.pop(name, None)
            # Also if the property did not exist: its version is stored nowhere else.
            return Change.VALUES
        if name in self.properties and _is_same(self.properties[name], value):
            return Change.VERSIONS
        self.properties[name] = value
        return Change.VALUES


def _is_same(one: object, other: object) -> bool:
    """Whether two values are the same JSON; in Python 1, 1.0 and true are equal."""
    if one.__class__ is not other.__class__ or one != other:
        return False
    return one.__class__ not in _CONTAINERS or _sorted_json(one) == _sorted_json(other)
