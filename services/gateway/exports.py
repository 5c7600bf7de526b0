"""Exports of a person: streams pages of ingest as one JSON document, without buffering it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from hogsend.contract.exports import INGEST_EXPORT, PARTS, ExportContact, ExportPage, Part
from hogsend.transport.connection import Connection
from services.gateway.timestamps import format_milliseconds


async def document(bus: Connection, contact_id: UUID, contact: ExportPage) -> AsyncIterator[bytes]:
    """Yield the document with everything about a person, in pieces.

    An empty page yields a line break, so that no proxy closes the connection as idle. An error ends
    the document in the middle. A document that ends with `complete` is complete.

    Args:
        bus: connection to ingest.
        contact_id: the person's contact.
        contact: page of the first part, which the caller requests before it starts the response.

    Raises:
        HogsendError: ingest does not reply, or the contact was erased meanwhile.
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
    """Request and yield all pages of a part, one at a time.

    Raises:
        HogsendError: ingest does not reply, or the contact does not exist.
    """
    after: str | None = None
    while True:
        query = ExportContact(contact_id=contact_id, part=part, after=after, only_count=only_count)
        page = await bus.request(INGEST_EXPORT, query)
        yield page
        if page.next is None:
            return
        after = page.next
