"""Finds a contact by any of its keys; for analytics, with its properties and time zone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql
import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.contacts import Contact
from hogsend.contract.identity import contact_email
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.ingest.contacts.contact import EMAIL, Key, canonical_key
from services.ingest.contacts.identity_resolution import keys_of_user
from services.ingest.contacts.storage import digest, owners

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
_decode_properties = msgspec.json.Decoder(Properties).decode


class ContactStore:
    """Reads contacts by any of their keys. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, user_id: str) -> Contact:
        """Return the contact with this user id, row id or email; an empty one if none exists."""
        async with self._database.acquire() as connection:
            row = await _row(connection, user_id)
        if row is None:
            return Contact()
        return Contact(
            contact_key=canonical_key(row["external_id"], row["id"]),
            email=row["email"],
            timezone=row["timezone"],
            properties=_decode_properties(row["properties"]),
        )

    async def fill_timezone(self, user_id: str, timezone: str) -> None:
        """Set the time zone of a contact without one; do nothing if the contact does not exist."""
        async with self._database.acquire() as connection:
            row = await _row(connection, user_id)
            if row is not None and row["timezone"] is None:
                await _queries.fill_timezone(connection, id=row["id"], timezone=timezone)


def keys_named(user_id: str, email: str | None) -> list[Key]:
    """Return the keys for a user id and an address, in this order."""
    # In the form in which PostgreSQL stores them.
    keys = keys_of_user(text_without_nul(user_id) or "")
    if (address := contact_email(text_without_nul(email))) is not None:
        keys.append(Key(EMAIL, address))
    return keys


async def contacts_of(connection: Any, keys: Sequence[Key]) -> list[UUID]:
    """Return the contacts of keys, each once, in the order of the keys."""
    if not keys:
        return []
    owner_of = await owners(connection, {key: digest(key) for key in keys})
    return list(dict.fromkeys(owner_of[key] for key in keys if key in owner_of))


async def ids_of(connection: Any, text: str) -> list[UUID]:
    """Return the contacts with a text as user id, row id or email, in this order, each once."""
    return await contacts_of(connection, keys_named(text, text))


async def _row(connection: Any, user_id: str) -> Any:
    ids = await ids_of(connection, user_id)
    return await _queries.contact(connection, ids=ids) if ids else None
