"""Backfills: events that PostHog had before the connection, brought here afterwards."""

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
    """Bring events that happened from `since` on and before `until`.

    What ran with the same `since`, `events` and `announce`, and did not finish, goes on where it
    ended; so a repeated request does no work twice.
    """

    since: Moment
    until: Moment | None = None
    """None means the moment of the request."""
    events: Annotated[list[EventName], msgspec.Meta(max_length=100)] = []
    """Only events of these names; all when it is empty."""
    announce: bool = False
    """Whether subscribers of events hear of those that are new here."""
    dry_run: bool = False
    """Only count."""


class Backfill(Message, frozen=True):
    """A backfill, and how far it is."""

    id: str
    state: State
    since: datetime
    until: datetime
    events: list[str]
    announce: bool
    started_at: datetime
    ended_at: datetime | None
    position: datetime | None
    """When the last event happened that is safe here; None before the first."""
    total: int
    """How many events PostHog counted at the start."""
    read: int
    """How many of them were read."""
    stored: int
    known: int
    """Were here already, for example because PostHog's webhook brought them."""
    rejected: int
    """Cannot be stored: they identify no person, PostgreSQL refuses them, or they are too large."""
    left_out: str | None = None
    """Which event is too large to be read from PostHog; the last one, where there are several."""
    detail: str | None = None
    """What it waits for, or why it failed."""
    remediation: str | None = None


class BackfillReply(Message, frozen=True):
    """One of the three is set: the backfill, the count of a dry run, or why neither is possible."""

    backfill: Backfill | None = None
    count: int | None = None
    refusal: Refusal | None = None


class BackfillList(Message, frozen=True):
    """Backfills, the latest first."""

    backfills: list[Backfill]


class BackfillRef(Message, frozen=True):
    """One backfill."""

    id: str


class PastEvent(Message, frozen=True):
    """An event as PostHog's query API has it."""

    uuid: str
    event: str
    distinct_id: str
    timestamp: datetime
    properties: Properties
    person_properties: Properties = {}


class StorePast(Message, frozen=True):
    """Store events of the past."""

    events: list[PastEvent]
    received_at: Moment
    """When the backfill started: the same for every repetition, which is told by it."""
    announce: bool = False


class PastStored(Message, frozen=True):
    """What became of the events; a repeated request has the same answer."""

    stored: int
    known: int
    rejected: int


PROVISIONER_BACKFILL = Endpoint(
    service=User.PROVISIONER,
    verb="backfill",
    request=StartBackfill,
    reply=BackfillReply,
    callers=(User.GATEWAY,),
    summary="Start a backfill from PostHog, or go on with one that did not finish.",
    deadline=60.0,
    changes=True,
)
PROVISIONER_BACKFILLS = Endpoint(
    service=User.PROVISIONER,
    verb="backfills",
    request=Empty,
    reply=BackfillList,
    callers=(User.GATEWAY,),
    summary="The latest backfills, and how far they are.",
)
PROVISIONER_CANCEL_BACKFILL = Endpoint(
    service=User.PROVISIONER,
    verb="cancel-backfill",
    request=BackfillRef,
    reply=Backfill,
    callers=(User.GATEWAY,),
    summary="Stop a backfill; what it brought stays.",
    changes=True,
    resource="id",
)
INGEST_STORE_PAST = Endpoint(
    service=User.INGEST,
    verb="store-past",
    request=StorePast,
    reply=PastStored,
    callers=(User.PROVISIONER,),
    summary="Store events of the past, which a backfill read from PostHog.",
    deadline=60.0,
    changes=True,
)
