"""Events and contacts as columns for PostgreSQL, and rows as events and contacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.events import StoredEvent
from services.ingest.contacts.contact import Contact, Version
from services.ingest.events.incoming_event import IncomingEvent

_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(Properties).decode
_decode_versions = msgspec.json.Decoder(dict[str, Version]).decode
_decode_version = msgspec.json.Decoder(Version).decode


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
)


def event(event: IncomingEvent, contact_id: UUID) -> tuple[object, ...]:
    """Values of `EVENT_COLUMNS`."""
    return (
        event.ref.source,
        event.ref.id,
        event.name,
        event.user_id,
        contact_id,
        _json(event.properties),
        event.occurred_at,
        event.received_at,
        event.correlation_id,
    )


def contacts(changed: Sequence[Contact]) -> str:
    """Contacts as `save_contacts` reads them; the fields are named like the columns."""
    return _json(changed)


def contact(row: Mapping[str, Any]) -> Contact:
    """The contact of a row of `contacts`."""
    version = row["email_version"]
    return Contact(
        id=row["id"],
        source=row["source"],
        created_at=row["created_at"],
        external_id=row["external_id"],
        email=row["email"],
        email_version=None if version is None else _decode_version(version),
        properties=_decode_properties(row["properties"]),
        timezone=row["timezone"],
        versions=_decode_versions(row["versions"]),
        first_seen_at=row["first_seen_at"],
        last_seen_at=row["last_seen_at"],
    )


def stored_event(row: Mapping[str, Any]) -> StoredEvent:
    """The event of a row of the query `page`."""
    return StoredEvent(
        id=row["id"],
        event=row["event"],
        user_id=row["user_id"],
        contact_key=row["contact_key"],
        source=row["source"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        properties=_decode_properties(row["properties"]),
    )


def storable(text: str | None) -> str | None:
    """The text as it would be stored: PostgreSQL holds no NUL."""
    return None if text is None else text.replace("\0", "\ufffd")


def _json(value: object) -> str:
    return _encode(value).decode()
