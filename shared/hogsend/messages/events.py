"""Normalized events: what subscribers receive, and how stored ones are listed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from hogsend.messages.base import Message, Properties


class Event(Message, frozen=True):
    """Something a user did, stored in Hogsend and announced on `hogsend.events.<event>`.

    Delivered at least once; `id` is the same on every delivery, so keep it to drop repeats.
    """

    id: str
    """PostHog's event uuid, or a digest of the delivery when PostHog sent none."""
    event: str
    user_id: str
    """The distinct id as PostHog sent it; may be empty when only an email is known."""
    contact_key: str
    """The key this user's contact is known by now: survives merges, unlike `user_id`."""
    source: str
    occurred_at: datetime
    """When it happened, by the clock of whoever reported it (UTC)."""
    received_at: datetime
    """When the gateway accepted it (UTC)."""
    properties: Properties
    email: str | None = None
    person_properties: Properties = {}


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


class ListEvents(Message, frozen=True):
    """Filters of the event list; None means any."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    offset: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class EventPage(Message, frozen=True):
    """A page of events, newest first by `received_at`, and how many match in all."""

    events: list[StoredEvent]
    total: int
    limit: int
    offset: int
