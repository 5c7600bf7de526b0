"""Converts events to rows of PostgreSQL, and rows to events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.events import StoredEvent
from services.ingest.incoming_event import IncomingEvent

_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(Properties).decode


EVENT_COLUMNS = (
    "source",
    "id",
    "event",
    "user_id",
    "contact_id",
    "properties",
    "occurred_at",
    "received_at",
    "correlation_id",
    "backfilled",
    "queued_at",
)
"""The columns that are written. PostgreSQL sets `stored_at` to the time of the statement."""


NO_CONTACT = UUID(int=0)
"""Contact id of an event without a person."""


def event_row(event: IncomingEvent, contact_id: UUID) -> tuple[object, ...]:
    """Return the values of `EVENT_COLUMNS`."""
    return (
        event.ref.source,
        event.ref.id,
        event.name,
        event.user_id,
        contact_id,
        _encode(event.properties).decode(),
        event.occurred_at,
        event.received_at,
        event.correlation_id,
        event.backfilled,
        event.queued_at,
    )


def stored_event(row: Mapping[str, Any]) -> StoredEvent:
    """Build an event from a row of the query `page`."""
    return StoredEvent(
        id=row["id"],
        event=row["event"],
        user_id=row["user_id"],
        contact_key=row["contact_key"],
        source=row["source"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        properties=_decode_properties(row["properties"]),
        backfilled=row["backfilled"],
    )
