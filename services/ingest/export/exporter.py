"""Exports one person's data in pages, without state between two pages.

A page is limited in bytes. A page of events or messages is also limited by how much of the table
or the stream is read for it, however little of that is the person's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.exports import ExportContact, ExportPage, Part
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.contacts.contact import ROW, Key
from services.ingest.contacts.storage import owner
from services.ingest.erasure import sweep
from services.ingest.erasure.person import Person
from services.ingest.event_table.partitions import list_partitions
from services.ingest.export import items
from services.ingest.pages import read_rows
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("queries.sql"))

PAGE_BYTES = 512 * 1024
"""Most bytes of a page. A single item may be larger."""
PAGE_ROWS = 2_000
"""Most rows of a page. Mostly a page ends by its bytes: PostgreSQL finds all events of a contact
again for each page, so a page should have as many as possible."""
PAGE_BLOCKS = 16 * 1024
"""Most blocks of the events' table that are read for one page: 128 MiB."""
_FRAMING_BYTES = 4096
"""Bytes of a reply that are set aside for what it contains besides the items."""
_START = datetime.min.replace(tzinfo=UTC)
_NIL_UUID = UUID(int=0)


class _DataSubject(msgspec.Struct, frozen=True):
    """The person whose data is exported."""

    contact: UUID
    contacts: list[UUID]
    """The contact's id and the ids of the contacts that were merged into it."""
    person: Person


class _Item(NamedTuple):
    """An item of an export."""

    kind: str
    position: str
    """The `after` of a page that continues behind this item."""
    encode: Callable[[], bytes]
    """Encodes the item as JSON."""


class _EventsPosition(NamedTuple):
    """A position in the table of events."""

    day: date
    """Day on which its partition starts."""
    block: int = 0
    """Block of the partition at which a page starts."""
    row: str = "(0,0)"
    """The last row before the position: its `ctid` as PostgreSQL writes it."""

    def __str__(self) -> str:
        """The start of a page, without the row."""
        return f"{self.day}/{self.block}"


class _Items(NamedTuple):
    """Items that were read together."""

    items: Sequence[_Item]
    has_more: bool
    """Whether there may be more items of the same kind after them."""


class Exporter:
    """Reads pages of exports.

    Raises `Unavailable` while PostgreSQL or JetStream is unavailable.
    """

    def __init__(self, database: Database, link: Connection) -> None:
        self._database = database
        self._link = link

    async def page(self, request: ExportContact) -> ExportPage:
        """Return a page.

        Raises:
            NotFound: no contact has this id.
            InvalidRequest: `after` is not the `next` of an earlier page.
        """
        parts: dict[Part, Callable[..., Coroutine[Any, Any, ExportPage]]] = {
            "contact": self._contact,
            "keys": self._keys,
            "merges": self._merges,
            "events": self._events,
            "audit": self._audit,
        }
        async with self._database.acquire(snapshot=True) as connection:
            subject = await _find_subject(connection, request.contact_id)
            if request.part != "messages":
                try:
                    return await parts[request.part](connection, subject, request)
                except (ValueError, OverflowError, asyncpg.DataError) as error:
                    raise _invalid_position() from error
        return await self._messages(subject, request)

    async def _contact(
        self, connection: Any, subject: _DataSubject, request: ExportContact
    ) -> ExportPage:
        row = await _queries.contact(connection, id=subject.contact)
        item = _Item("contact", "", lambda: items.contact(row))
        return self._fill_page(_Items([item], has_more=False), request)

    async def _keys(
        self, connection: Any, subject: _DataSubject, request: ExportContact
    ) -> ExportPage:
        kind, _, hexadecimal = (request.after or "").partition(":")
        rows = _queries.keys_cursor(
            connection,
            contact=subject.contact,
            kind=kind,
            digest=bytes.fromhex(hexadecimal),
            limit=PAGE_ROWS,
        )
        return self._fill_page(
            await _read_items(
                rows, "keys", items.key, lambda row: f"{row['kind']}:{row['digest'].hex()}"
            ),
            request,
        )

    async def _merges(
        self, connection: Any, subject: _DataSubject, request: ExportContact
    ) -> ExportPage:
        after = int(request.after or 0)
        rows = _queries.merges_cursor(
            connection, contacts=subject.contacts, after=after, limit=PAGE_ROWS
        )
        return self._fill_page(
            await _read_items(rows, "merges", items.merge, lambda row: str(row["id"])), request
        )

    async def _audit(
        self, connection: Any, subject: _DataSubject, request: ExportContact
    ) -> ExportPage:
        at, _, id = (request.after or f"{_START.isoformat()} {_NIL_UUID}").rpartition(" ")
        rows = _queries.audit_cursor(
            connection,
            names=sorted(subject.person.user_ids | subject.person.emails),
            after_at=datetime.fromisoformat(at),
            after_id=UUID(id),
            limit=PAGE_ROWS,
        )
        batch = await _read_items(
            rows,
            "audit",
            items.audit_entry,
            lambda row: f"{row['at'].isoformat()} {row['id']}",
        )
        return self._fill_page(batch, request)

    async def _events(
        self, connection: Any, subject: _DataSubject, request: ExportContact
    ) -> ExportPage:
        position = _parse_position(request.after)
        partitions = [
            partition for partition in await list_partitions(connection) if partition.blocks
        ]
        counted, remaining = 0, PAGE_BLOCKS
        for partition in partitions:
            day = partition.begins.date()
            if day < position.day:
                continue
            if day > position.day:
                position = _EventsPosition(day)
            end = position.block + remaining
            is_last = end >= partition.blocks and partition is partitions[-1]
            next_position = None if is_last else str(_EventsPosition(day, end))
            arguments = {
                "contacts": subject.contacts,
                "relation": partition.relation,
                "begins": partition.begins,
                "ends": partition.ends,
                "first": f"({position.block},0)",
                "end": f"({end},0)",
            }
            if request.only_count:
                counted += await _queries.count_events(connection, **arguments)
            else:
                batch = await _read_items(
                    _queries.events_cursor(
                        connection, **arguments, after=position.row, limit=PAGE_ROWS
                    ),
                    "events",
                    items.event,
                    partial(_position_of_row, position),
                )
                if batch.items:
                    return self._fill_page(batch, request, next_position)
            remaining = end - max(partition.blocks, position.block)
            if remaining <= 0:
                return ExportPage(counts={"events": counted}, next=next_position)
        return ExportPage(counts={"events": counted})

    async def _messages(self, subject: _DataSubject, request: ExportContact) -> ExportPage:
        stream, _, first = (request.after or "").partition("/")
        try:
            part = await sweep.find_messages(
                self._link, stream=stream or None, first=int(first or 1), person=subject.person
            )
        except ValueError as error:
            raise _invalid_position() from error
        messages = [
            _Item(name, f"{name}/{stored.sequence + 1}", partial(items.message, name, stored))
            for name, stored in part.messages
        ]
        return self._fill_page(_Items(messages, has_more=False), request, part.next_position)

    def _fill_page(
        self, batch: _Items, request: ExportContact, next_position: str | None = None
    ) -> ExportPage:
        """Build a page of as many items as fit.

        Args:
            batch: items to be encoded, or counted.
            request: what was requested.
            next_position: where the next page starts if all items fit and no more follow.
        """
        if batch.has_more:
            next_position = batch.items[-1].position
        encoded_items: list[msgspec.Raw] = []
        size = 0
        for number, item in enumerate(batch.items):
            if request.only_count:
                break
            encoded = item.encode()
            if encoded_items and size + len(encoded) > PAGE_BYTES:
                last = batch.items[number - 1]
                return _page(encoded_items, batch.items[:number], last.position)
            if len(encoded) > self._link.max_payload - _FRAMING_BYTES:
                encoded = items.too_large(len(encoded), item.position)
            encoded_items.append(msgspec.Raw(encoded))
            size += len(encoded)
        return _page(encoded_items, batch.items, next_position)


async def _read_items(
    rows: AbstractAsyncContextManager[Any],
    kind: str,
    encode: Callable[[Mapping[str, Any]], bytes],
    position: Callable[[Mapping[str, Any]], str],
) -> _Items:
    """Read rows up to the query's limit, or until they are about a page of bytes.

    Args:
        rows: a query with a cursor and the limit `PAGE_ROWS`.
        kind: kind of the items.
        encode: encodes a row as JSON.
        position: returns the `after` of a page that continues behind a row.
    """
    batch: list[_Item] = []
    size = 0
    async with aclosing(read_rows(rows)) as each:
        async for row in each:
            batch.append(_Item(kind, position(row), partial(encode, row)))
            size += sum(len(value) for value in row.values() if isinstance(value, str))
            if size > PAGE_BYTES:
                return _Items(batch, has_more=True)
    return _Items(batch, has_more=len(batch) == PAGE_ROWS)


def _page(
    encoded: list[msgspec.Raw], batch: Sequence[_Item], next_position: str | None
) -> ExportPage:
    return ExportPage(
        items=encoded, counts=dict(Counter(item.kind for item in batch)), next=next_position
    )


def _invalid_position() -> InvalidRequest:
    return InvalidRequest("after must be the next of an earlier page")


async def _find_subject(connection: Any, contact_id: UUID) -> _DataSubject:
    id = await owner(connection, contact_id)
    if id is None:
        raise NotFound(f"there is no contact {contact_id}; `hogsend contacts show` finds some")
    keys = [Key(*row) async for row in _queries.all_keys(connection, contact=id)]
    contacts = [id, *(UUID(key.value) for key in keys if key.kind == ROW)]
    return _DataSubject(id, contacts, Person.from_keys(keys, contacts))


def _parse_position(after: str | None) -> _EventsPosition:
    """Read the start of a page of events: behind a row, or at the start of a block."""
    if after is None:
        return _EventsPosition(date.min)
    day, block, row = [*after.split("/"), "(0,0)"][:3]
    row_block, line = row.removeprefix("(").removesuffix(")").split(",")
    return _EventsPosition(date.fromisoformat(day), int(block), f"({int(row_block)},{int(line)})")


def _position_of_row(position: _EventsPosition, row: Mapping[str, Any]) -> str:
    return f"{position}/{row['position']}"
