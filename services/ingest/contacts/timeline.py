"""Lists the events of one contact in pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.directory import ListTimeline, Timeline, TimelineEntry
from hogsend.contract.errors import NotFound
from hogsend.service.database import Database
from services.ingest.contacts.contact import ROW, Key
from services.ingest.contacts.directory import LIST_SECONDS
from services.ingest.contacts.lookup import ids_of
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import read_entries
from services.ingest.queries import load
from services.ingest.sources.engagement import SOURCE

_queries = load(Path(__file__).with_name("timeline.sql"))
_decode_properties = msgspec.json.Decoder(Properties).decode

_MAIL = "email."
_MAIL_FIELDS = {"subject": "subject", "templateKey": "templateKey", "to": "toEmail"}
"""Fields of a reported email's data, and their names in a timeline entry (`hogsend contacts`)."""


class TimelineReader:
    """Lists the events of one contact. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, request: ListTimeline, *, max_bytes: int | None = None) -> Timeline:
        """List the events of a contact, the latest first.

        Args:
            request: a key of the contact, and the position of the page.
            max_bytes: most bytes of the events as JSON; a page is shorter if not all fit.

        Raises:
            NotFound: no contact has this key.
        """
        hint = "list events by userId instead"
        async with list_snapshot(self._database, LIST_SECONDS, hint) as connection:
            ids = await ids_of(connection, request.key)
            if not ids:
                raise NotFound(_no_contact(request.key))
            keys = [Key(*row) async for row in _queries.keys(connection, contact=ids[0])]
            contacts = [ids[0], *(UUID(key.value) for key in keys if key.kind == ROW)]
            arguments = {
                # An event whose person is named by an address alone has an empty user id.
                "user_ids": ["", *(str(id) for id in contacts), *(key.value for key in keys)],
                "contacts": contacts,
                "mails": request.type in {None, "email"},
                "others": request.type in {None, "event"},
            }
            total = await _queries.timeline_total(connection, **arguments)
            rows = _queries.timeline_cursor(
                connection, **arguments, limit=request.limit, offset=request.offset
            )
            page = await read_entries(rows, _entry, limit=request.limit, max_bytes=max_bytes)
        return Timeline(
            timeline=page.entries, total=total, limit=request.limit, offset=request.offset
        )


def _entry(row: Mapping[str, Any]) -> TimelineEntry:
    event: str = row["event"]
    properties = _decode_properties(row["properties"])
    data: Properties = {
        "id": row["id"],
        "event": event,
        "source": row["source"],
        "properties": properties,
    }
    is_mail = row["source"] == SOURCE and event.startswith(_MAIL)
    if is_mail:
        data["status"] = event.removeprefix(_MAIL)
        for field, name in _MAIL_FIELDS.items():
            data[name] = properties.get(field)
    return TimelineEntry(
        type="email" if is_mail else "event", timestamp=row["occurred_at"], data=data
    )


def _no_contact(key: str) -> str:
    """The error message for a text that is no key of a contact."""
    return f"there is no contact {key[:200]!r}: give a user id, a contact's id or an email address"
