"""Converts rows of contacts to the contacts that operators read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.contacts import ContactRecord, Origin
from services.ingest.contacts.contact import (
    UNKNOWN,
    Version,
    canonical_key,
    moment_of,
    version_at,
)

_decode_properties = msgspec.json.Decoder(Properties).decode
_decode_versions = msgspec.json.Decoder(dict[str, Version]).decode
_decode_version = msgspec.json.Decoder(Version).decode

MOST_CHARACTERS = 200
"""Characters of an event's id, which may be very long."""


def contact_record(row: Mapping[str, Any]) -> ContactRecord:
    """Build a contact from a row with all columns."""
    return ContactRecord(
        id=str(row["id"]),
        contact_key=canonical_key(row["external_id"], row["id"]),
        external_id=row["external_id"],
        email=row["email"],
        timezone=row["timezone"],
        properties=_decode_properties(row["properties"]),
        first_seen_at=row["first_seen_at"],
        last_seen_at=row["last_seen_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def origins(row: Mapping[str, Any]) -> dict[str, Origin]:
    """Return which event set each property, or was the last to repeat its value.

    A property that no event set, such as one that an operator wrote, has no origin.
    """
    properties = _decode_properties(row["properties"])
    versions = _decode_versions(row["versions"])
    return {
        name: _origin(version, row)
        for name, version in versions.items()
        if name in properties and version != UNKNOWN
    }


def email_origin(row: Mapping[str, Any]) -> Origin | None:
    """Return which event set the address, or was the last to repeat it; None without an address."""
    if row["email"] is None or row["email_version"] is None:
        return None
    return _origin(_decode_version(row["email_version"]), row)


def _origin(version: Version, row: Mapping[str, Any]) -> Origin:
    if row["restated_at"] is not None:
        version = max(version, version_at(row["restated_at"], row["restated_by"]))
    return Origin(at=moment_of(version), event_id=version[1][:MOST_CHARACTERS])
