"""Persons in PostHog: reading them, and writing properties, events and aliases (4.4, 4.5)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, Properties, open_enum
from hogsend.contract.provisioning import Refusal
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

MAX_DISTINCT_ID = 200
"""Maximum characters of a distinct id.

PostHog cuts longer ids (`rust/capture`), so that two persons could become one.
"""
DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_DISTINCT_ID, pattern=r"\S")]
MergedId = Annotated[str, msgspec.Meta(max_length=MAX_DISTINCT_ID)]
"""A distinct id in an alias. A placeholder that identifies no person merges nothing."""
EventName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Addressed(Message, frozen=True, kw_only=True):
    """Base of the messages that become an event in PostHog."""

    id: UUID | None = None
    """The event's uuid in PostHog, by which PostHog recognizes repeats.

    None means a uuid that is derived from the message id, or without one from the message's
    position in the stream.
    """
    timestamp: Moment | None = None
    """When it happened; None means when the message was queued."""


def position_id(sequence: int, queued_at: datetime) -> str:
    """An id for a message that was published without a message id.

    Args:
        sequence: position of the message in the stream.
        queued_at: when the stream stored the message. Sequence numbers restart at 1 if a stream is
            deleted and created again; the time keeps the ids different.
    """
    return f"{sequence}:{queued_at.timestamp():.6f}"


class SetPerson(Addressed, frozen=True, kw_only=True):
    """Change properties of a person, which sends one `$set` event to PostHog."""

    distinct_id: DistinctId
    """A distinct id of the person."""
    set: Properties = {}
    """Properties to set."""
    set_once: Properties = {}
    """Properties to set if the person does not have them yet."""
    unset: list[str] = []
    """Names of properties to remove."""


class Capture(Addressed, frozen=True, kw_only=True):
    """Capture an event in PostHog."""

    event: EventName
    """The event's name."""
    distinct_id: DistinctId
    """A distinct id of the person."""
    properties: Properties = {}
    """The event's properties."""
    groups: dict[str, str] = {}
    """Keys of PostHog groups that the event belongs to, by group type."""


class Alias(Addressed, frozen=True, kw_only=True):
    """Merge an anonymous id into a person, which sends `$create_alias` to PostHog."""

    distinct_id: MergedId
    """The distinct id of the person that remains."""
    alias: MergedId
    """The anonymous id that is merged into the person."""


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
    """Read a person's properties."""

    distinct_id: DistinctId


class Person(Message, frozen=True):
    """A person's properties; empty if PostHog has no such person or could not be read."""

    properties: Properties


class GetTimezone(Message, frozen=True):
    """Determine a person's time zone (contract 4.2)."""

    distinct_id: DistinctId
    explicit: str | None = None
    """Takes precedence over all other sources. An unknown time zone is an error."""
    default: str | None = None
    """Used instead of `DEFAULT_TIMEZONE` if no source has a time zone."""


class Timezone(Message, frozen=True):
    """An IANA time zone and the source that it was taken from."""

    timezone: str
    source: Annotated[str, open_enum(TimezoneSource)]


class DeletePerson(Message, frozen=True):
    """Delete the PostHog persons that have one of these distinct ids, and their events."""

    distinct_ids: list[str]


class PersonDeletion(Message, frozen=True):
    """Result of a deletion. PostHog accepted it if there is no refusal, and deletes within days."""

    refusal: Refusal | None = None


PERSON_ALIASED = Channel(
    subject=subjects.persons("alias"),
    stream=StreamName.PERSONS,
    message=Alias,
    publishers=(User.APP, User.INGEST),
    subscribers=(User.ANALYTICS,),
    summary="Merge an anonymous id into a PostHog person.",
)
EVENT_CAPTURED = Channel(
    subject=subjects.persons("capture"),
    stream=StreamName.PERSONS,
    message=Capture,
    publishers=(User.APP, User.INGEST, User.ANALYTICS),
    subscribers=(User.ANALYTICS,),
    summary="Capture an event in PostHog.",
)
PERSON_SET = Channel(
    subject=subjects.persons("set"),
    stream=StreamName.PERSONS,
    message=SetPerson,
    publishers=(User.APP, User.INGEST),
    subscribers=(User.ANALYTICS,),
    summary="Set properties of a PostHog person.",
)
ANALYTICS_PERSON = Endpoint(
    service=User.ANALYTICS,
    verb="person",
    request=GetPerson,
    reply=Person,
    callers=(User.APP,),
    summary="A person's properties in PostHog; empty if they cannot be read.",
    deadline=30.0,
)
ANALYTICS_TIMEZONE = Endpoint(
    service=User.ANALYTICS,
    verb="timezone",
    request=GetTimezone,
    reply=Timezone,
    callers=(User.APP,),
    summary="A person's time zone, and the source that it was taken from.",
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
