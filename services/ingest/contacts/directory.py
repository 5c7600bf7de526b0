"""Contacts in pages, what happened to each of them, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.contacts import ContactRecord
from hogsend.contract.directory import (
    ContactPage,
    ListContacts,
    ListTimeline,
    Overview,
    Timeline,
    TimelineEntry,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.ingest.contacts import reported
from services.ingest.contacts.contact import ROW, Key
from services.ingest.contacts.lookup import contacts_of, ids_of, keys_named
from services.ingest.contacts.records import contact_record
from services.ingest.contacts.search import BEGUN, RECENT, conditions
from services.ingest.contacts.storage import digest, owners
from services.ingest.list_reading import reading
from services.ingest.pages import (
    EXACT_TOTAL,
    ContactPosition,
    Taken,
    cursor,
    position,
    take,
    total_of,
)
from services.ingest.queries import load
from services.ingest.sources.engagement import SOURCE

_queries = load(Path(__file__).with_name("directory.sql"))
_decode_properties = msgspec.json.Decoder(Properties).decode

LIST_SECONDS = 4.0
"""How long one of the statements for a page may take. Contacts in the order in which they were seen
may all be read: 0.2 s for 400,000."""
LATEST = 20_000
"""Events at most whose contacts are looked at for those that were seen last. They were written
together and are read as quickly, which takes a thirtieth of sorting a million contacts."""
BEYOND = 10
"""Contacts that are looked up beyond the end of the page, besides an eighth: some became one, and
then twice as many."""
_EVENTS_OF_ONE = 8
"""Events that are looked at first, for each contact up to the end of the page."""

_MAIL = "email."
_MAIL_FIELDS = {"subject": "subject", "templateKey": "templateKey", "to": "toEmail"}
"""What the data of an email says, and what Hogsend's command calls it."""


class ContactDirectory:
    """Contacts for people to read. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: ListContacts, *, room: int | None = None) -> ContactPage:
        """List contacts in the order that is asked for; named ones in order of what names them.

        Args:
            wanted: which.
            room: bytes that they may have together; a page is shorter where not all fit.

        Raises:
            InvalidRequest: `before` is no position in this order, or there is an `offset`, too.
        """
        if wanted.order == "created" and wanted.offset:
            raise InvalidRequest("order=created has no offset: use before")
        if wanted.order != "created" and wanted.before is not None:
            raise InvalidRequest("before needs order=created")
        if not (wanted.key is wanted.user_id is wanted.email is None):
            return await self._named(wanted, room)
        if search := text_without_nul(wanted.search):
            return await self._searched(wanted, search, room)
        instead = "list them with order=created, or search for one"
        async with reading(self._database, LIST_SECONDS, instead) as connection:
            total, estimated = await _total(connection)
            if wanted.order == "created":
                # One more than is shown tells whether there is another page.
                newest = _queries.newest_cursor(
                    connection, **_before(wanted), limit=wanted.limit + 1
                )
                found = await take(newest, contact_record, limit=wanted.limit, room=room)
            else:
                found = await _seen_last(connection, wanted, room, is_long=estimated)
        return _page(wanted, found, total, estimated=estimated)

    async def _searched(self, wanted: ListContacts, search: str, room: int | None) -> ContactPage:
        instead = "search for more characters of it"
        async with reading(self._database, LIST_SECONDS, instead) as connection:
            asked = {**conditions(search), "most_begun": BEGUN, "most_recent": RECENT}
            is_newest = wanted.order == "created"
            everywhere = {**asked, "newest": is_newest, "limit": wanted.limit + is_newest}
            searched = _queries.searched_cursor(
                connection, **everywhere, **_before(wanted), offset=wanted.offset
            )
            found = await take(searched, contact_record, limit=wanted.limit, room=room)
            first = found.last
            if first is None and (wanted.offset or wanted.before):
                # A page behind the last one tells nothing.
                searched = _queries.searched_cursor(
                    connection, **everywhere, **_NO_POSITION, offset=0
                )
                first = (await take(searched, contact_record, limit=1, room=room)).last
        total, begun = (first["total"], first["begun"]) if first is not None else (0, 0)
        return _page(wanted, found, total, estimated=begun >= BEGUN)

    async def timeline(self, wanted: ListTimeline, *, room: int | None = None) -> Timeline:
        """What happened to a contact, the latest first; as much as fits into `room` bytes.

        Raises:
            NotFound: no contact is known by that key.
        """
        instead = "list events by userId instead"
        async with reading(self._database, LIST_SECONDS, instead) as connection:
            ids = await ids_of(connection, wanted.key)
            if not ids:
                raise NotFound(no_contact(wanted.key))
            keys = [Key(*row) async for row in _queries.keys(connection, contact=ids[0])]
            contacts = [ids[0], *(UUID(key.value) for key in keys if key.kind == ROW)]
            whose = {
                # An event that names an address only has no user id.
                "user_ids": ["", *(str(id) for id in contacts), *(key.value for key in keys)],
                "contacts": contacts,
                "mails": wanted.type in {None, "email"},
                "others": wanted.type in {None, "event"},
            }
            total = await _queries.timeline_total(connection, **whose)
            timeline = _queries.timeline_cursor(
                connection, **whose, limit=wanted.limit, offset=wanted.offset
            )
            shown = (await take(timeline, _entry, limit=wanted.limit, room=room)).entries
        return Timeline(timeline=shown, total=total, limit=wanted.limit, offset=wanted.offset)

    async def overview(self) -> Overview:
        """Count contacts, events and reported emails, as far as that is quick."""
        now = datetime.now(UTC)
        instead = "list events by their name instead"
        async with reading(self._database, LIST_SECONDS, instead) as connection:
            contacts, contacts_estimated = await _total(connection)
            events, events_estimated = await total_of(
                await _queries.expected_to_have_happened(connection, now=now),
                lambda: _queries.happened(connection, now=now, most=EXACT_TOTAL + 1),
                exact=EXACT_TOTAL,
            )
            sent = await reported.mails(connection, "email.sent", now)
            bounced, bounced_estimated = await reported.bounced(connection, now, sent)
            unsubscribed, unsubscribed_estimated = await reported.unsubscribed(connection)
        return Overview(
            total_contacts=contacts,
            total_contacts_estimated=contacts_estimated,
            events24h=events,
            events24h_estimated=events_estimated,
            emails_sent24h=sent.day,
            emails_sent7d=sent.week,
            emails_sent30d=sent.month,
            emails_estimated=sent.estimated or bounced_estimated,
            bounce_rate30d=_rate(bounced, sent.month),
            unsubscribe_rate=_rate(min(unsubscribed, contacts), contacts),
            unsubscribe_rate_estimated=unsubscribed_estimated,
        )

    async def owners_of(self, keys: Sequence[Key]) -> dict[Key, UUID]:
        """The contacts that keys lead to; keys without one are absent."""
        async with self._database.acquire() as connection:
            return await owners(connection, {key: digest(key) for key in keys})

    async def _named(self, wanted: ListContacts, room: int | None) -> ContactPage:
        async with self._database.acquire(snapshot=True) as connection:
            if wanted.key is not None:
                ids = await ids_of(connection, wanted.key)
            else:
                keys = keys_named(wanted.user_id or "", wanted.email)
                ids = await contacts_of(connection, keys)
            shown = ids[wanted.offset : wanted.offset + wanted.limit]
            named = _queries.contacts_by_id_cursor(connection, ids=shown)
            found = await take(named, contact_record, limit=wanted.limit, room=room)
        return ContactPage(
            contacts=found.entries,
            total=len(ids),
            limit=wanted.limit,
            offset=wanted.offset,
        )


async def _total(connection: Any) -> tuple[int, bool]:
    """How many contacts there are, and whether that is an estimate."""
    return await total_of(
        await _queries.expected_total(connection),
        lambda: _queries.total(connection, most=EXACT_TOTAL + 1),
        exact=EXACT_TOTAL,
    )


async def _seen_last(
    connection: Any, wanted: ListContacts, room: int | None, *, is_long: bool
) -> Taken[ContactRecord]:
    """Contacts in the order in which they were seen; a long list is sorted only if it has to be."""
    page = {"limit": wanted.limit, "offset": wanted.offset}
    end = wanted.offset + wanted.limit
    first = (min(LATEST, _EVENTS_OF_ONE * end), end + end // 8 + BEYOND)
    for most, contacts in (first, (LATEST, 2 * end + BEYOND)) if is_long else ():
        latest = _queries.latest_seen_cursor(connection, most=most, contacts=contacts, **page)
        found = await take(latest, contact_record, limit=wanted.limit, room=room)
        if found.is_cut or len(found.entries) == wanted.limit:
            return found
    everyone = _queries.contacts_cursor(connection, **page)
    return await take(everyone, contact_record, limit=wanted.limit, room=room)


def no_contact(key: str) -> str:
    """What is said of a text that leads nowhere."""
    return f"there is no contact {key[:200]!r}: give a user id, a contact's id or an email address"


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


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


_NO_POSITION: Mapping[str, object] = {"before": False, "before_created": None, "before_id": None}


def _before(wanted: ListContacts) -> Mapping[str, object]:
    before = position(ContactPosition, wanted.before)
    if before is None:
        return _NO_POSITION
    return {"before": True, "before_created": before.created_at, "before_id": before.id}


def _page(
    wanted: ListContacts, found: Taken[ContactRecord], total: int, *, estimated: bool
) -> ContactPage:
    following: str | msgspec.UnsetType | None = msgspec.UNSET
    if wanted.order == "created":
        following = None
        if found.last is not (end := found.end):
            following = cursor(ContactPosition(end["created_at"], end["id"]))
    return ContactPage(
        contacts=found.entries,
        total=total,
        total_estimated=estimated,
        limit=wanted.limit,
        offset=wanted.offset,
        next_before=following,
    )
