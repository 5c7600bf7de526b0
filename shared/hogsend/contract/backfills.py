"""Backfills: imports of events that PostHog stored before it was connected."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract.base import Empty, Message, Properties
from hogsend.contract.provisioning import Refusal
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
EventName = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
State = Literal["running", "finished", "cancelled", "failed"]


class StartBackfill(Message, frozen=True):
    """Import the events that happened at or after `since` and before `until`.

    An unfinished backfill with the same `since`, `events` and `announce` is resumed where it
    stopped, so a repeated request imports nothing twice.
    """

    since: Moment
    until: Moment | None = None
    """None means the time of the request."""
    events: Annotated[list[EventName], msgspec.Meta(max_length=100)] = []
    """Names of the events to import; all events if empty."""
    announce: bool = False
    """Whether newly stored events are published to subscribers."""
    dry_run: bool = False
    """Only count the events."""


class Backfill(Message, frozen=True):
    """A backfill and its progress."""

    id: str
    state: State
    since: datetime
    """Events that happened at this time or later are imported."""
    until: datetime
    """Events that happened before this time are imported."""
    events: list[str]
    """Names of the imported events; empty means all."""
    announce: bool
    """Whether newly stored events are published to subscribers."""
    started_at: datetime
    ended_at: datetime | None
    """When it finished, failed or was cancelled; None while it runs."""
    position: datetime | None
    """Events up to this time are imported; None before the first one."""
    total: int
    """Number of events that PostHog counted at the start."""
    read: int
    """Number of events read from PostHog so far."""
    stored: int
    """Number of newly stored events."""
    known: int
    """Number of events that were stored before, for example from PostHog's webhook."""
    rejected: int
    """Number of events that cannot be stored: they identify no person, PostgreSQL refuses them, or
    they are too large."""
    left_out: str | None = None
    """The last event that was skipped because it is too large to be read from PostHog."""
    detail: str | None = None
    """What the backfill waits for, or why it failed."""
    remediation: str | None = None
    """What an operator can do about `detail`."""


class BackfillReply(Message, frozen=True):
    """The backfill, the count of a dry run, or the refusal of both. Exactly one is set."""

    backfill: Backfill | None = None
    count: int | None = None
    refusal: Refusal | None = None


class BackfillList(Message, frozen=True):
    """The latest backfills, newest first."""

    backfills: list[Backfill]


class BackfillRef(Message, frozen=True):
    """One backfill."""

    id: str


class PastEvent(Message, frozen=True):
    """An event as PostHog's query API returns it."""

    uuid: str
    event: str
    distinct_id: str
    timestamp: datetime
    properties: Properties
    person_properties: Properties = {}


class StorePast(Message, frozen=True):
    """Store events that a backfill read from PostHog."""

    events: list[PastEvent]
    received_at: Moment
    """When the backfill started. A repeated request has the same value and is recognized by it."""
    announce: bool = False
    """Whether newly stored events are published to subscribers."""


class PastStored(Message, frozen=True):
    """The result of `StorePast`. A repeated request gets the same reply."""

    stored: int
    """Number of newly stored events."""
    known: int
    """Number of events that were stored before."""
    rejected: int
    """Number of events that cannot be stored."""


PROVISIONER_BACKFILL = Endpoint(
    service=User.PROVISIONER,
    verb="backfill",
    request=StartBackfill,
    reply=BackfillReply,
    callers=(User.GATEWAY,),
    summary="Start a backfill from PostHog, or resume one that did not finish.",
    deadline=60.0,
    changes=True,
)
PROVISIONER_BACKFILLS = Endpoint(
    service=User.PROVISIONER,
    verb="backfills",
    request=Empty,
    reply=BackfillList,
    callers=(User.GATEWAY,),
    summary="The latest backfills and their progress.",
)
PROVISIONER_CANCEL_BACKFILL = Endpoint(
    service=User.PROVISIONER,
    verb="cancel-backfill",
    request=BackfillRef,
    reply=Backfill,
    callers=(User.GATEWAY,),
    summary="Cancel a backfill. Events that it imported stay.",
    changes=True,
    resource="id",
)
INGEST_STORE_PAST = Endpoint(
    service=User.INGEST,
    verb="store-past",
    request=StorePast,
    reply=PastStored,
    callers=(User.PROVISIONER,),
    summary="Store events that a backfill read from PostHog.",
    deadline=60.0,
    changes=True,
)
