"""What services want PostHog to know: person writes, captures and aliases (contract 4.4, 4.5)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, Properties, one_of
from hogsend.contract.provisioning import Refusal
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

MAX_DISTINCT_ID = 200
"""Characters. PostHog cuts longer ids off (`rust/capture`), which would make one person of two."""
DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_DISTINCT_ID, pattern=r"\S")]
MergedId = Annotated[str, msgspec.Meta(max_length=MAX_DISTINCT_ID)]
"""One that names no person merges nothing."""
EventName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Addressed(Message, frozen=True, kw_only=True):
    """Something for PostHog."""

    id: UUID | None = None
    """The event's uuid there, so that repeats are one event.

    None means one that is made of the message's id, else of its place in the stream.
    """
    timestamp: Moment | None = None
    """When it happened; None means when it was queued."""


def place_id(sequence: int, queued_at: datetime) -> str:
    """What stands in for the id of a message that was published without one.

    Args:
        sequence: its position in the stream.
        queued_at: when the stream took it. A stream that is made anew counts from 1 again; the time
            tells its messages from earlier ones.
    """
    return f"{sequence}:{queued_at.timestamp():.6f}"


class SetPerson(Addressed, frozen=True, kw_only=True):
    """Change properties of a person: one `$set` capture."""

    distinct_id: DistinctId
    set: Properties = {}
    set_once: Properties = {}
    unset: list[str] = []


class Capture(Addressed, frozen=True, kw_only=True):
    """Capture an event."""

    event: EventName
    distinct_id: DistinctId
    properties: Properties = {}
    groups: dict[str, str] = {}


class Alias(Addressed, frozen=True, kw_only=True):
    """Let an anonymous id belong to a person from now on: `$create_alias`."""

    distinct_id: MergedId
    """The key that survives."""
    alias: MergedId
    """The anonymous id that is absorbed."""


TimezoneSource = Literal[
    "explicit",
    "posthog_timezone",
    "posthog_geoip",
    "contact_column",
    "contact_properties",
    "default",
    "fallback",
]


class GetPerson(Message, frozen=True):
    """Ask for a person's properties."""

    distinct_id: DistinctId


class Person(Message, frozen=True):
    """A person's properties; empty when there is none or it could not be read."""

    properties: Properties


class GetTimezone(Message, frozen=True):
    """Ask in which time zone a person lives (contract 4.2)."""

    distinct_id: DistinctId
    explicit: str | None = None
    """Wins over everything; an unknown zone is an error."""
    default: str | None = None
    """Stands in for `DEFAULT_TIMEZONE` when nothing is known."""


class Timezone(Message, frozen=True):
    """An IANA zone and where it came from."""

    timezone: str
    source: Annotated[str, one_of(TimezoneSource)]


class DeletePerson(Message, frozen=True):
    """Delete the persons whom PostHog knows by one of these ids, and their events."""

    distinct_ids: list[str]


class PersonDeletion(Message, frozen=True):
    """PostHog took the request, unless there is a refusal; it deletes events within days."""

    refusal: Refusal | None = None


PERSON_ALIASED = Channel(
    subject=subjects.persons("alias"),
    stream=StreamName.PERSONS,
    message=Alias,
    publishers=(User.APP, User.INGEST),
    subscribers=(User.ANALYTICS,),
    summary="An anonymous id that a PostHog person absorbs.",
)
EVENT_CAPTURED = Channel(
    subject=subjects.persons("capture"),
    stream=StreamName.PERSONS,
    message=Capture,
    publishers=(User.APP, User.INGEST, User.ANALYTICS),
    subscribers=(User.ANALYTICS,),
    summary="An event to capture in PostHog.",
)
PERSON_SET = Channel(
    subject=subjects.persons("set"),
    stream=StreamName.PERSONS,
    message=SetPerson,
    publishers=(User.APP, User.INGEST),
    subscribers=(User.ANALYTICS,),
    summary="Properties to set on a PostHog person.",
)
ANALYTICS_PERSON = Endpoint(
    service=User.ANALYTICS,
    verb="person",
    request=GetPerson,
    reply=Person,
    callers=(User.APP,),
    summary="A person's properties, from PostHog; empty when they cannot be read.",
    deadline=30.0,
)
ANALYTICS_TIMEZONE = Endpoint(
    service=User.ANALYTICS,
    verb="timezone",
    request=GetTimezone,
    reply=Timezone,
    callers=(User.APP,),
    summary="A person's time zone and where it is known from.",
    deadline=30.0,
)
ANALYTICS_DELETE_PERSON = Endpoint(
    service=User.ANALYTICS,
    verb="delete-person",
    request=DeletePerson,
    reply=PersonDeletion,
    callers=(User.GATEWAY,),
    summary="Delete a person in PostHog, with their events and recordings.",
    deadline=45.0,
    changes=True,
)
