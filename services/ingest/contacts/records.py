"""Contacts as rows of PostgreSQL, and what of them people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.contacts import ContactRecord
from services.ingest.contacts.contact import canonical_key

_decode_properties = msgspec.json.Decoder(Properties).decode


def contact_record(row: Mapping[str, Any]) -> ContactRecord:
    """Build a contact from a row that has all of its columns."""
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
