"""Normalized events: what subscribers receive, and how stored ones are listed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Limit, Message, Offset, Properties
from hogsend.contract.headers import event_message_id
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User


class EventBase(Message, frozen=True):
    """What an event tells whatever its properties are."""

    id: str
    """PostHog's event uuid, or an id of the delivery's own when PostHog sent none."""
    event: str
    user_id: str
    """The distinct id as PostHog sent it; may be empty when only an email is known."""
    contact_key: str
    """The key this user's contact is known by now: survives merges, unlike `user_id`.

    Empty for an event without a person: its user id is one that programs write when they know
    none, such as `null`, and there is no email.
    """
    source: str
    occurred_at: datetime
    """When it happened, by the reporter's clock (UTC)."""
    received_at: datetime
    """When the gateway accepted it (UTC)."""

    @property
    def key(self) -> str:
        """What tells this event from every other: source, id, name and user id (correction C4)."""
        return event_message_id(
            source=self.source, id=self.id, event=self.event, user_id=self.user_id
        )


class Event(EventBase, frozen=True):
    """Something a user did, stored in Hogsend and announced on `hogsend.events.<event>`.

    Delivered at least once. `key` is the same on every delivery, and so is the message's id: keep
    either to drop repeats.
    """

    properties: Properties
    email: str | None = None
    person_properties: Properties = {}
    backfilled: bool = False
    """Whether a backfill read it from PostHog afterwards, possibly long after it happened."""


class StoredEvent(Message, frozen=True):
    """One event as `GET /v1/admin/events` lists it."""

    id: str
    event: str
    user_id: str
    contact_key: str
    source: str
    occurred_at: datetime
    received_at: datetime
    properties: Properties
    backfilled: bool = False
    """Whether a backfill read it from PostHog; `received_at` is then when it was
    brought, or a few hours earlier."""


class ListEvents(Message, frozen=True):
    """Filters of the event list; None means any."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None
    occurred_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """Events that happened then or later."""
    occurred_to: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """Events that happened then or earlier."""
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """`next_before` of the page before this one; as fast at the end of the list as at its head."""
    id: str | None = None
    """Id of an event; more than one may have it, in several sources or of several users."""


class EventPage(Message, frozen=True):
    """A page of events, newest first by `occurred_at`: as many as fit into one answer."""

    events: list[StoredEvent]
    total: int
    """How many events match on all pages: exact up to 10,000, with filters up to 1,000, else
    PostgreSQL's estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | None = None
    """`before` of the next page; None on the last."""
    searched_to: datetime | None = None
    """Set where a search ended before the page was full: what happened before is on pages after."""


class TraceEvent(Message, frozen=True, kw_only=True):
    """Which event is meant: what it is stored once by."""

    source: str
    id: str
    event: str
    user_id: str


class Announcement(Message, frozen=True, kw_only=True):
    """An event's message on `hogsend.events.<event>`."""

    state: Literal["announced", "absent", "expired", "unknown"]
    """`absent`: the stream has none, as for events of a backfill or while NATS took none;
    `expired`: the stream does not reach back to the event's receipt any more; `unknown`: NATS does
    not answer, or very many events of that name came at the time."""
    at: datetime | None = None
    """When the stream took it."""
    sequence: int | None = None
    """Its position in the stream EVENTS."""
    trace_id: str | None = None
    """Trace of its way here, where traces are on (W3C Trace Context)."""


class EventTrace(Message, frozen=True, kw_only=True):
    """What became of an event in ingest."""

    event: StoredEvent
    correlation_id: str | None
    """Of the request that brought it, as logs have it."""
    queued_at: datetime | None = None
    """When JetStream took it for ingest, by JetStream's clock (UTC); None for what was not queued,
    and for events that a version before 0.2.0 stored."""
    stored_at: datetime | None = None
    """When PostgreSQL took it, by PostgreSQL's clock (UTC); None for events that a version before
    0.2.0 stored."""
    announcement: Announcement


class RecordEvent(Message, frozen=True, kw_only=True):
    """An event reported to Hogsend itself; `user_id` or `email` must say whose it is."""

    event: str
    user_id: str = ""
    email: str | None = None
    properties: Properties = {}
    contact_properties: Properties = {}
    idempotency_key: str | None = None
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]


class Recorded(Message, frozen=True, kw_only=True):
    """The event is stored."""

    id: str
    stored: bool
    """False when the idempotency key was seen before."""
    contact_key: str


EVENT_ANNOUNCED = Channel(
    subject=f"{subjects.EVENTS}.*",
    parameter="event",
    stream=StreamName.EVENTS,
    message=Event,
    publishers=(User.INGEST,),
    subscribers=(User.GATEWAY, User.ANALYTICS, User.SUBSCRIBER, User.APP),
    summary="A normalized event, after it is stored; the last token is its escaped name.",
)
INGEST_EVENTS = Endpoint(
    service=User.INGEST,
    verb="events",
    request=ListEvents,
    reply=EventPage,
    callers=(User.GATEWAY,),
    summary="A page of stored events.",
)
INGEST_EVENT_TRACE = Endpoint(
    service=User.INGEST,
    verb="event-trace",
    request=TraceEvent,
    reply=EventTrace,
    callers=(User.GATEWAY,),
    summary="What became of one event.",
    deadline=10.0,
)
INGEST_RECORD = Endpoint(
    service=User.INGEST,
    verb="record",
    request=RecordEvent,
    reply=Recorded,
    callers=(User.GATEWAY,),
    summary="Store an event that was reported to Hogsend itself, and announce it.",
    deadline=5.0,
)
