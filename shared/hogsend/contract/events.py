"""Normalized events, as subscribers receive them and as stored ones are listed."""

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
    """The fields of an event besides its properties."""

    id: str
    """PostHog's event uuid. Without one, an id that was made for the delivery."""
    event: str
    """The event's name, such as `signed_up`."""
    user_id: str
    """PostHog's distinct id, unchanged. May be empty if only an email is known."""
    contact_key: str
    """Key of the user's contact when the event was published. After contacts were merged, events of
    all their user ids have the same key.

    Empty for an event without a person: its user id is a placeholder such as `null`, and it has no
    email.
    """
    source: str
    """The product that reported the event, such as `posthog`."""
    occurred_at: datetime
    """When the event happened, by the reporter's clock (UTC)."""
    received_at: datetime
    """When the gateway accepted the event (UTC)."""

    @property
    def key(self) -> str:
        """Unique key of the event, made of its source, id, name and user id (correction C4)."""
        return event_message_id(
            source=self.source, id=self.id, event=self.event, user_id=self.user_id
        )


class Event(EventBase, frozen=True):
    """Something a user did, stored in Hogsend and published on `hogsend.events.<event>`.

    Delivered at least once. The header `Nats-Msg-Id` is the same on every delivery, and so is `key`
    of the Python library: store either to recognize repeats.
    """

    properties: Properties
    """The event's properties, as PostHog sent them."""
    email: str | None = None
    """The person's email address, in lower case."""
    person_properties: Properties = {}
    """The person's properties at the time, as PostHog sent them."""
    backfilled: bool = False
    """Whether a backfill read the event from PostHog, possibly long after it happened."""


class StoredEvent(Message, frozen=True):
    """One stored event, as `GET /v1/admin/events` lists it."""

    id: str
    """PostHog's event uuid, or the id under which a service reported the event."""
    event: str
    """The event's name, such as `signed_up`."""
    user_id: str
    """PostHog's distinct id. Empty if only an email address is known."""
    contact_key: str
    """Key of the person's contact. All user ids of a merged contact have the same."""
    source: str
    """The product that reported the event, such as `posthog`."""
    occurred_at: datetime
    """When the event happened, by the reporter's clock (UTC)."""
    received_at: datetime
    """When the gateway accepted the event (UTC)."""
    properties: Properties
    """The event's properties, as they were reported."""
    backfilled: bool = False
    """Whether a backfill read the event from PostHog. `received_at` is then the time of the
    backfill, or a few hours earlier."""


class ListEvents(Message, frozen=True):
    """Filters of the event list; None means any."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None
    occurred_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """Only events that happened at this time or later."""
    occurred_to: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """Only events that happened at this time or earlier."""
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """Cursor: `next_before` of the previous page. Unlike `offset`, it is as fast at the end of the
    list as at its start."""
    id: str | None = None
    """Id of an event. Several events may have it, of different sources or users."""


class EventPage(Message, frozen=True):
    """A page of events, newest first by `occurred_at`, with as many as fit into one reply."""

    events: list[StoredEvent]
    total: int
    """Number of matching events on all pages: exact up to 10,000 (with filters up to 1,000), above
    that PostgreSQL's estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | None = None
    """`before` of the next page; None on the last page."""
    searched_to: datetime | None = None
    """Set if the search stopped before the page was full: events before this time are on the next
    pages."""


class TraceEvent(Message, frozen=True, kw_only=True):
    """Identifies one stored event by its unique key."""

    source: str
    id: str
    event: str
    user_id: str


class Announcement(Message, frozen=True, kw_only=True):
    """State of an event's message on `hogsend.events.<event>`."""

    state: Literal["announced", "absent", "expired", "unknown"]
    """`announced`: the stream EVENTS has the message. `absent`: it does not, for example because a
    backfill did not announce the event or NATS was unavailable. `expired`: the stream no longer
    reaches back to the time of receipt. `unknown`: NATS does not reply, or too many events of that
    name were received at that time."""
    at: datetime | None = None
    """When the stream stored the message."""
    sequence: int | None = None
    """Position of the message in the stream EVENTS."""
    trace_id: str | None = None
    """Id of the trace that brought the event here, with tracing enabled (W3C Trace Context)."""


class EventTrace(Message, frozen=True, kw_only=True):
    """The steps of one event through ingest."""

    event: StoredEvent
    correlation_id: str | None
    """Id of the request that brought the event, as in the logs."""
    queued_at: datetime | None = None
    """When JetStream queued the event for ingest, by JetStream's clock (UTC). None for events that
    were not queued, and for those that a version before 0.2.0 stored."""
    stored_at: datetime | None = None
    """When PostgreSQL stored the event, by PostgreSQL's clock (UTC). None for events that a version
    before 0.2.0 stored."""
    announcement: Announcement
    """The event's message to subscribers."""


class RecordEvent(Message, frozen=True, kw_only=True):
    """An event that is reported to Hogsend directly. `user_id` or `email` is required."""

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
    """False if an event with this idempotency key was stored before."""
    contact_key: str


EVENT_ANNOUNCED = Channel(
    subject=f"{subjects.EVENTS}.*",
    parameter="event",
    stream=StreamName.EVENTS,
    message=Event,
    publishers=(User.INGEST,),
    subscribers=(User.GATEWAY, User.ANALYTICS, User.SUBSCRIBER, User.APP),
    summary="A normalized event, published after it was stored; `*` is its name, escaped.",
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
    summary="The steps of one event through ingest.",
    deadline=10.0,
)
INGEST_RECORD = Endpoint(
    service=User.INGEST,
    verb="record",
    request=RecordEvent,
    reply=Recorded,
    callers=(User.GATEWAY,),
    summary="Store an event that was reported to Hogsend directly, and publish it.",
    deadline=5.0,
)
