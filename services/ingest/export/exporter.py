"""One person's data in pages: each is found anew, so that nothing is held between them.

Pages are bounded by bytes, and those of the largest tables and streams by how much is looked
through, whatever is found there.
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
from services.ingest.event_table.partitions import listed
from services.ingest.export import items
from services.ingest.pages import read_on
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("queries.sql"))

PAGE_BYTES = 512 * 1024
"""A page ends before the item that would make it larger, unless that is its only one."""
PAGE_ROWS = 2_000
"""Mostly a page ends by its bytes: PostgreSQL finds all events of a contact anew for each."""
PAGE_BLOCKS = 16 * 1024
"""Blocks of the events that are looked through for one page: 128 MiB."""
_FRAMING_BYTES = 4096
"""What a reply takes besides its items."""
_START = datetime.min.replace(tzinfo=UTC)
_NOBODY = UUID(int=0)


class _Whose(msgspec.Struct, frozen=True):
    """Whose data is wanted."""

    contact: UUID
    contacts: list[UUID]
    """The contact's id and those that were merged into it."""
    person: Person


class _Item(NamedTuple):
    """An item that was found, and how it is encoded."""

    kind: str
    position: str
    """Where to go on after it."""
    encode: Callable[[], bytes]


class _Place(NamedTuple):
    """Where something begins among the stored events."""

    day: date
    """When its partition begins."""
    block: int = 0
    row: str = "(0,0)"
    """The row before it, in PostgreSQL's form."""

    def __str__(self) -> str:
        """Where its page begins, without the row, which is appended."""
        return f"{self.day}/{self.block}"


class _Some(NamedTuple):
    """Items, and whether others may follow that were not read."""

    found: Sequence[_Item]
    more: bool


class Exporter:
    """Pages of exports.

    Raises `Unavailable` while PostgreSQL or JetStream is unavailable.
    """

    def __init__(self, database: Database, link: Connection) -> None:
        self._database = database
        self._link = link

    async def page(self, wanted: ExportContact) -> ExportPage:
        """Give a page.

        Raises:
            NotFound: no contact has this id.
            InvalidRequest: `after` is of no page before.
        """
        parts: dict[Part, Callable[..., Coroutine[Any, Any, ExportPage]]] = {
            "contact": self._contact,
            "keys": self._keys,
            "merges": self._merges,
            "events": self._events,
            "audit": self._audit,
        }
        async with self._database.acquire(snapshot=True) as connection:
            whose = await _whose(connection, wanted.contact_id)
            if wanted.part != "messages":
                try:
                    return await parts[wanted.part](connection, whose, wanted)
                except (ValueError, OverflowError, asyncpg.DataError) as error:
                    raise _no_page_before() from error
        return await self._messages(whose, wanted)

    async def _contact(self, connection: Any, whose: _Whose, wanted: ExportContact) -> ExportPage:
        row = await _queries.contact(connection, id=whose.contact)
        found = [_Item("contact", "", lambda: items.contact(row))]
        return self._filled(_Some(found, more=False), wanted)

    async def _keys(self, connection: Any, whose: _Whose, wanted: ExportContact) -> ExportPage:
        kind, _, hexadecimal = (wanted.after or "").partition(":")
        rows = _queries.keys_cursor(
            connection,
            contact=whose.contact,
            kind=kind,
            digest=bytes.fromhex(hexadecimal),
            limit=PAGE_ROWS,
        )
        return self._filled(
            await _some(
                rows, "keys", items.key, lambda row: f"{row['kind']}:{row['digest'].hex()}"
            ),
            wanted,
        )

    async def _merges(self, connection: Any, whose: _Whose, wanted: ExportContact) -> ExportPage:
        after = int(wanted.after or 0)
        rows = _queries.merges_cursor(
            connection, contacts=whose.contacts, after=after, limit=PAGE_ROWS
        )
        return self._filled(
            await _some(rows, "merges", items.merge, lambda row: str(row["id"])), wanted
        )

    async def _audit(self, connection: Any, whose: _Whose, wanted: ExportContact) -> ExportPage:
        at, _, id = (wanted.after or f"{_START.isoformat()} {_NOBODY}").rpartition(" ")
        rows = _queries.audit_cursor(
            connection,
            names=sorted(whose.person.user_ids | whose.person.emails),
            after_at=datetime.fromisoformat(at),
            after_id=UUID(id),
            limit=PAGE_ROWS,
        )
        found = await _some(
            rows,
            "audit",
            items.audit_entry,
            lambda row: f"{row['at'].isoformat()} {row['id']}",
        )
        return self._filled(found, wanted)

    async def _events(self, connection: Any, whose: _Whose, wanted: ExportContact) -> ExportPage:
        place = _place(wanted.after)
        partitions = [one for one in await listed(connection) if one.blocks]
        counted, left = 0, PAGE_BLOCKS
        for partition in partitions:
            day = partition.begins.date()
            if day < place.day:
                continue
            if day > place.day:
                place = _Place(day)
            end = place.block + left
            is_last = end >= partition.blocks and partition is partitions[-1]
            following = None if is_last else str(_Place(day, end))
            within = {
                "contacts": whose.contacts,
                "relation": partition.relation,
                "begins": partition.begins,
                "ends": partition.ends,
                "first": f"({place.block},0)",
                "end": f"({end},0)",
            }
            if wanted.only_count:
                counted += await _queries.count_events(connection, **within)
            else:
                found = await _some(
                    _queries.events_cursor(connection, **within, after=place.row, limit=PAGE_ROWS),
                    "events",
                    items.event,
                    partial(_place_after, place),
                )
                if found.found:
                    return self._filled(found, wanted, following)
            left = end - max(partition.blocks, place.block)
            if left <= 0:
                return ExportPage(counts={"events": counted}, next=following)
        return ExportPage(counts={"events": counted})

    async def _messages(self, whose: _Whose, wanted: ExportContact) -> ExportPage:
        stream, _, first = (wanted.after or "").partition("/")
        try:
            part = await sweep.find_messages(
                self._link, stream=stream or None, first=int(first or 1), person=whose.person
            )
        except ValueError as error:
            raise _no_page_before() from error
        found = [
            _Item(name, f"{name}/{one.sequence + 1}", partial(items.message, name, one))
            for name, one in part.messages
        ]
        return self._filled(_Some(found, more=False), wanted, part.next_position)

    def _filled(
        self, some: _Some, wanted: ExportContact, following: str | None = None
    ) -> ExportPage:
        """Make a page of what was found; the next begins at `following` if every item fits."""
        found = some.found
        if some.more:
            following = found[-1].position
        taken: list[msgspec.Raw] = []
        size = 0
        for number, item in enumerate(found):
            if wanted.only_count:
                break
            encoded = item.encode()
            if taken and size + len(encoded) > PAGE_BYTES:
                return _page(taken, found[:number], found[number - 1].position)
            if len(encoded) > self._link.max_payload - _FRAMING_BYTES:
                encoded = items.too_large(len(encoded), item.position)
            taken.append(msgspec.Raw(encoded))
            size += len(encoded)
        return _page(taken, found, following)


async def _some(
    rows: AbstractAsyncContextManager[Any],
    kind: str,
    encode: Callable[[Mapping[str, Any]], bytes],
    position: Callable[[Mapping[str, Any]], str],
) -> _Some:
    """Read rows until they are as many as were asked for, or about a page of bytes."""
    found: list[_Item] = []
    size = 0
    async with aclosing(read_on(rows)) as each:
        async for row in each:
            found.append(_Item(kind, position(row), partial(encode, row)))
            size += sum(len(value) for value in row.values() if isinstance(value, str))
            if size > PAGE_BYTES:
                return _Some(found, more=True)
    return _Some(found, more=len(found) == PAGE_ROWS)


def _page(taken: list[msgspec.Raw], found: Sequence[_Item], following: str | None) -> ExportPage:
    return ExportPage(
        items=taken, counts=dict(Counter(item.kind for item in found)), next=following
    )


def _no_page_before() -> InvalidRequest:
    return InvalidRequest("after must be the next of an earlier page")


async def _whose(connection: Any, contact_id: UUID) -> _Whose:
    id = await owner(connection, contact_id)
    if id is None:
        raise NotFound(f"there is no contact {contact_id}; `hogsend contacts show` finds some")
    keys = [Key(*row) async for row in _queries.known_by(connection, contact=id)]
    contacts = [id, *(UUID(one.value) for one in keys if one.kind == ROW)]
    return _Whose(id, contacts, Person.from_keys(keys, contacts))


def _place(after: str | None) -> _Place:
    """Where a page of events begins: after a row, or at the beginning of a block."""
    if after is None:
        return _Place(date.min)
    day, block, row = [*after.split("/"), "(0,0)"][:3]
    row_block, line = row.removeprefix("(").removesuffix(")").split(",")
    return _Place(date.fromisoformat(day), int(block), f"({int(row_block)},{int(line)})")


def _place_after(place: _Place, row: Mapping[str, Any]) -> str:
    return f"{place}/{row['position']}"
