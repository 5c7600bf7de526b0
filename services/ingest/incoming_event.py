"""An event as its source reported it: the one form to which messages of all sources are decoded."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import force_setattr

from hogsend.contract.base import Properties
from hogsend.contract.engagement import MAX_ENGAGEMENT_ID
from hogsend.contract.headers import event_digest, message_id_of
from hogsend.contract.identity import contact_user_id


def reported_id(id: str, user_id: str, email: str | None) -> str:
    """The id under which an event is stored that its reporter calls `id`.

    An event is identified by its id and its user id (correction C4). If an address alone names the
    person, a digest of the address is appended to the id: mail providers have one id for a mail to
    several people.
    """
    if email is None or contact_user_id(user_id) is not None:
        return id
    person = _digest(email, 12)
    fits = len(id) + 1 + len(person) <= MAX_ENGAGEMENT_ID
    return f"{id}:{person}" if fits else f"{_digest(id, 32)}:{person}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class EventRef(NamedTuple):
    """An event's identity: its source, and the source's id for it."""

    source: str
    id: str


class EventKey(NamedTuple):
    """What identifies an event; the ids of a source need not be unique by themselves."""

    source: str
    id: str
    name: str
    user_id: str


class IncomingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one person."""

    ref: EventRef
    name: str
    user_id: str
    """Distinct id as received; may be blank, or identify no person."""
    email: str | None
    """Folded; None if the source has no valid address."""
    occurred_at: datetime
    """When it happened, by the reporter's clock (UTC)."""
    received_at: datetime
    """When the gateway received it, by the gateway's clock (UTC)."""
    properties: Properties
    person_properties: Properties
    queued_at: datetime | None = None
    """When JetStream stored its message, by JetStream's clock (UTC); None without a message."""
    correlation_id: str | None = None
    backfilled: bool = False
    traceparent: str | None = None
    """The span in which it is processed (W3C Trace Context), if it is traced."""
    digest: bytes = b""
    """The SHA-256 of the key (32 bytes)."""
    contact_user_id: str | None = None
    """The distinct id if it may be a contact's key; otherwise None."""

    def __post_init__(self) -> None:
        """Derive what several steps of a batch read."""
        force_setattr(self, "digest", event_digest(*self.ref, self.name, self.user_id))
        force_setattr(self, "contact_user_id", contact_user_id(self.user_id))

    @property
    def key(self) -> EventKey:
        """What identifies this event: it is stored once (correction C4)."""
        return EventKey(*self.ref, self.name, self.user_id)

    @property
    def message_id(self) -> str:
        """The same key as text: the message id of messages about this event."""
        return message_id_of(self.digest, self.ref.id)

    @property
    def effective_at(self) -> datetime:
        """The time by which this event is ordered among the events of its person.

        It is never later than the time of receipt. Otherwise an event from a clock that runs ahead
        would override every later event.
        """
        return min(self.occurred_at, self.received_at)
