"""An event as its source reported it, in the one form that every source is decoded to."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.engagement import MAX_ENGAGEMENT_ID
from hogsend.contract.headers import event_message_id
from hogsend.contract.identity import contact_user_id


def reported_id(id: str, user_id: str, email: str | None) -> str:
    """The id of an event that a reporter knows by `id`, of a person with this user id or address.

    An event is known by its user id, too (correction C4). Of a person who is named by an address
    alone, the id says which address: mail providers have one id for a mail to several people.
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
    """What tells an event from every other; its source's ids need not be unique by themselves."""

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
    """Folded; None unless it is an address."""
    occurred_at: datetime
    """By the reporter's clock (UTC)."""
    received_at: datetime
    """By the gateway's clock (UTC)."""
    properties: Properties
    person_properties: Properties
    queued_at: datetime | None = None
    """By JetStream's clock (UTC); None for what was not queued."""
    correlation_id: str | None = None
    backfilled: bool = False
    traceparent: str | None = None
    """The span it is handled in (W3C Trace Context), where there is one."""

    @property
    def key(self) -> EventKey:
        """What this event is stored once by (correction C4)."""
        return EventKey(*self.ref, self.name, self.user_id)

    @property
    def message_id(self) -> str:
        """The same key, as messages about this event carry it."""
        source, id = self.ref
        return event_message_id(source=source, id=id, event=self.name, user_id=self.user_id)

    @property
    def contact_user_id(self) -> str | None:
        """The distinct id, if it may be a contact's key."""
        return contact_user_id(self.user_id)

    @property
    def effective_at(self) -> datetime:
        """The time that orders this event among its person's events.

        It is never after the time of receipt. Otherwise an event from a clock that runs ahead would
        win over every later one.
        """
        return min(self.occurred_at, self.received_at)
