"""Lists contacts in pages: all of them, or those that match a search or a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.contacts import ContactRecord
from hogsend.contract.directory import ContactPage, ListContacts
from hogsend.contract.errors import InvalidRequest
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.ingest.contacts.contact import Key
from services.ingest.contacts.lookup import contacts_of, ids_of, keys_named
from services.ingest.contacts.records import contact_record
from services.ingest.contacts.search import MAX_BY_PREFIX, RECENT, conditions
from services.ingest.contacts.storage import digest, owners
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import (
    EXACT_TOTAL,
    ContactPosition,
    PageEntries,
    count_or_estimate,
    decode_cursor,
    encode_cursor,
    read_entries,
)
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("directory.sql"))

LIST_SECONDS = 4.0
"""Time limit of each statement that reads contacts, a timeline or the overview. A list in the order
in which contacts were seen may read all of them: 0.2 s for 400,000."""
LATEST = 20_000
"""Most of the latest events that are read to find the contacts that were seen last. They lie
together on disk, so this takes a thirtieth of the time of sorting a million contacts."""
BEYOND = 10
"""So many contacts more than the page needs are looked up, plus an eighth of the page: contacts of
several events may have been merged into one. A second attempt looks up twice as many."""
_EVENTS_OF_ONE = 8
"""Events that the first attempt reads for each contact up to the end of the page."""


class ContactDirectory:
    """Lists contacts for operators. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, request: ListContacts, *, max_bytes: int | None = None) -> ContactPage:
        """List contacts.

        They are in the requested order. Contacts that are requested by their keys are in the order
        of the keys.

        Args:
            request: filters, the order and the position of the page.
            max_bytes: most bytes of the contacts as JSON; a page is shorter if not all fit.

        Raises:
            InvalidRequest: `before` is not a position in this order, or `order` does not permit
                `before` or `offset`.
        """
        if request.order == "created" and request.offset:
            raise InvalidRequest("order=created has no offset: use before")
        if request.order != "created" and request.before is not None:
            raise InvalidRequest("before needs order=created")
        if not (request.key is request.user_id is request.email is None):
            return await self._named(request, max_bytes)
        if search := text_without_nul(request.search):
            return await self._searched(request, search, max_bytes)
        hint = "list them with order=created, or search for one"
        async with list_snapshot(self._database, LIST_SECONDS, hint) as connection:
            total, estimated = await count_contacts(connection)
            if request.order == "created":
                # One more than requested shows whether there is another page.
                newest = _queries.newest_cursor(
                    connection, **_before(request), limit=request.limit + 1
                )
                page = await read_entries(
                    newest, contact_record, limit=request.limit, max_bytes=max_bytes
                )
            else:
                page = await _seen_last(connection, request, max_bytes, is_long=estimated)
        return _page(request, page, total, estimated=estimated)

    async def _searched(
        self, request: ListContacts, search: str, max_bytes: int | None
    ) -> ContactPage:
        hint = "search for more characters of it"
        async with list_snapshot(self._database, LIST_SECONDS, hint) as connection:
            is_newest = request.order == "created"
            arguments = {
                **conditions(search),
                "most_by_prefix": MAX_BY_PREFIX,
                "most_recent": RECENT,
                "newest": is_newest,
                "limit": request.limit + is_newest,
            }
            matches = _queries.searched_cursor(
                connection, **arguments, **_before(request), offset=request.offset
            )
            page = await read_entries(
                matches, contact_record, limit=request.limit, max_bytes=max_bytes
            )
            row = page.last
            if row is None and (request.offset or request.before):
                # An empty page has no row with the total, so the first page is read for it.
                matches = _queries.searched_cursor(
                    connection, **arguments, **_NO_POSITION, offset=0
                )
                row = (
                    await read_entries(matches, contact_record, limit=1, max_bytes=max_bytes)
                ).last
        total, by_prefix = (row["total"], row["by_prefix"]) if row is not None else (0, 0)
        return _page(request, page, total, estimated=by_prefix >= MAX_BY_PREFIX)

    async def owners_of(self, keys: Sequence[Key]) -> dict[Key, UUID]:
        """Return the contacts of keys; keys without a contact are absent."""
        async with self._database.acquire() as connection:
            return await owners(connection, {key: digest(key) for key in keys})

    async def _named(self, request: ListContacts, max_bytes: int | None) -> ContactPage:
        async with self._database.acquire(snapshot=True) as connection:
            if request.key is not None:
                ids = await ids_of(connection, request.key)
            else:
                keys = keys_named(request.user_id or "", request.email)
                ids = await contacts_of(connection, keys)
            page_ids = ids[request.offset : request.offset + request.limit]
            rows = _queries.contacts_by_id_cursor(connection, ids=page_ids)
            page = await read_entries(
                rows, contact_record, limit=request.limit, max_bytes=max_bytes
            )
        return ContactPage(
            contacts=page.entries,
            total=len(ids),
            limit=request.limit,
            offset=request.offset,
        )


async def count_contacts(connection: Any) -> tuple[int, bool]:
    """Return how many contacts there are, and whether that is an estimate."""
    return await count_or_estimate(
        await _queries.expected_total(connection),
        lambda: _queries.total(connection, most=EXACT_TOTAL + 1),
        exact=EXACT_TOTAL,
    )


async def _seen_last(
    connection: Any, request: ListContacts, max_bytes: int | None, *, is_long: bool
) -> PageEntries[ContactRecord]:
    """Read contacts, those that were seen last first.

    Two attempts read the contacts of the latest events. All contacts are sorted only if both find
    too few, or if the list is short.
    """
    position = {"limit": request.limit, "offset": request.offset}
    end = request.offset + request.limit
    first = (min(LATEST, _EVENTS_OF_ONE * end), end + end // 8 + BEYOND)
    for most, contacts in (first, (LATEST, 2 * end + BEYOND)) if is_long else ():
        rows = _queries.latest_seen_cursor(connection, most=most, contacts=contacts, **position)
        page = await read_entries(rows, contact_record, limit=request.limit, max_bytes=max_bytes)
        if page.is_cut or len(page.entries) == request.limit:
            return page
    rows = _queries.contacts_cursor(connection, **position)
    return await read_entries(rows, contact_record, limit=request.limit, max_bytes=max_bytes)


_NO_POSITION: Mapping[str, object] = {"before": False, "before_created": None, "before_id": None}


def _before(request: ListContacts) -> Mapping[str, object]:
    before = decode_cursor(ContactPosition, request.before)
    if before is None:
        return _NO_POSITION
    return {"before": True, "before_created": before.created_at, "before_id": before.id}


def _page(
    request: ListContacts, page: PageEntries[ContactRecord], total: int, *, estimated: bool
) -> ContactPage:
    next_before: str | msgspec.UnsetType | None = msgspec.UNSET
    if request.order == "created":
        next_before = None
        if page.last is not (end := page.end):
            next_before = encode_cursor(ContactPosition(end["created_at"], end["id"]))
    return ContactPage(
        contacts=page.entries,
        total=total,
        total_estimated=estimated,
        limit=request.limit,
        offset=request.offset,
        next_before=next_before,
    )
