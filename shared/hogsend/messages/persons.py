"""What services want PostHog to know: person writes, captures and aliases (contract 4.4, 4.5)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import msgspec

from hogsend.messages.base import Message, Properties

DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S")]
"""PostHog cuts longer ids off (`rust/capture`), which would make one person of two."""
EventName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Addressed(Message, frozen=True, kw_only=True):
    """Something for PostHog. Its id is the event uuid there, so that repeats are one event."""

    id: UUID = msgspec.field(default_factory=uuid4)
    timestamp: Moment | None = None
    """When it happened; None means when it was queued."""


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

    distinct_id: str
    """The key that survives."""
    alias: str
    """The anonymous id that is absorbed."""
