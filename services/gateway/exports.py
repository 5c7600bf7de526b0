"""Exports of a person: pages that ingest answers, as one JSON document that is never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from hogsend.contract.exports import INGEST_EXPORT, PARTS, ExportContact, ExportPage, Part
from hogsend.transport.connection import Connection
from services.gateway.timestamps import format_milliseconds


async def document(bus: Connection, contact_id: UUID, contact: ExportPage) -> AsyncIterator[bytes]:
    """Write everything about a person, piece by piece.

    A page that finds nothing writes a line break, so that no proxy takes the connection for dead.
    An error ends it in the middle of the document; what ends with `complete` is whole.

    Args:
        bus: where ingest is asked.
        contact_id: whose data is wanted.
        contact: the part that is asked for first, before anything is answered.

    Raises:
        HogsendError: ingest cannot be asked, or the contact was erased meanwhile.
    """
    now = msgspec.json.encode(format_milliseconds(datetime.now(UTC)))
    yield b'{"exportedAt":' + now + b',"contact":' + bytes(contact.items[0])
    for part in PARTS[1:]:
        yield f',\n"{part}":['.encode()
        separator = b""
        async for page in pages(bus, contact_id, part):
            for item in page.items:
                yield separator + bytes(item)
                separator = b",\n"
            if not page.items:
                yield b"\n"
        yield b"]"
    yield b',\n"complete":true}\n'


async def pages(
    bus: Connection, contact_id: UUID, part: Part, *, only_count: bool = False
) -> AsyncIterator[ExportPage]:
    """Ask for all pages of a part, one after another.

    Raises:
        HogsendError: ingest cannot be asked, or there is no such contact.
    """
    after: str | None = None
    while True:
        wanted = ExportContact(contact_id=contact_id, part=part, after=after, only_count=only_count)
        page = await bus.request(INGEST_EXPORT, wanted)
        yield page
        if page.next is None:
            return
        after = page.next
