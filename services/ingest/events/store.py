"""Events and contacts in PostgreSQL: a batch is one transaction.

Whoever holds the rows of the contacts that a batch is about has its people, and their events, for
itself. For people who have no row yet, the locks of their keys stand in. Replicas take these locks
first, in one order, and the rows next, in one order; so they wait for one another, only over people
they share, and never in a circle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql
import asyncpg
import msgspec
import stamina

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import EventPage, ListEvents
from hogsend.service.database import Database
from services.ingest.contacts.contact import ROW, Key
from services.ingest.contacts.identity_resolution import IdentityResolver, keys_of
from services.ingest.events import rows
from services.ingest.events.incoming_event import EventRef, IncomingEvent, Unprocessable

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")

LOCK_STRIPES = 1024
"""Contact keys share this many locks, or batches could fill PostgreSQL's lock table."""


class ContactsMoved(Exception):
    """Another replica merged a contact while this transaction was waiting for it."""


_CONFLICTS = (ContactsMoved, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_FAULTS_OF_A_MESSAGE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    msgspec.MsgspecError,
    ValueError,
    OverflowError,
    RecursionError,
)


class Saved(msgspec.Struct, frozen=True):
    """What became of a batch."""

    contact_keys: dict[EventRef, str]
    """Canonical contact key of every event that is stored now."""
    new: frozenset[EventRef]
    """Events that were not stored before."""
    rejected: dict[EventRef, Unprocessable]
    """Events the database does not take."""
    again: frozenset[EventRef] = frozenset()
    """Events that this very event stored before, and not a repetition of theirs."""


class EventStore:
    """Rows of the `ingest` schema. Every method raises `Unavailable` while it is away."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def save(self, events: Sequence[IncomingEvent]) -> Saved:
        """Store what is new and update the contacts; one bad event does not hold up the others.

        When this raises, the batch may have been stored all the same.
        """
        try:
            return await self._save_in_turn(events)
        except _FAULTS_OF_A_MESSAGE as error:
            if len(events) == 1:
                fault = Unprocessable("rejected_by_database", f"{type(error).__name__}: {error}")
                return Saved({}, frozenset(), {events[0].ref: fault})
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL does not work: {type(error).__name__}") from error
        middle = len(events) // 2
        return _joined(await self.save(events[:middle]), await self.save(events[middle:]))

    async def _save_in_turn(self, events: Sequence[IncomingEvent]) -> Saved:
        # Not the decorator: it would log its arguments, and these are about people.
        async for attempt in stamina.retry_context(
            on=_CONFLICTS,
            attempts=None,
            timeout=None,
            wait_initial=0.01,
            wait_max=1.0,
            wait_jitter=0.05,
        ):
            with attempt:
                return await self._save_together(events)
        raise AssertionError("retries never end")

    async def _save_together(self, events: Sequence[IncomingEvent]) -> Saved:
        async with self._database.acquire() as connection, connection.transaction():
            wanted = {key: digest(key) for one in events for key in keys_of(one)}
            resolver = await _resolver(connection, wanted)
            # Only now: until their people were locked, another replica could store these events.
            stored = await _stored(connection, events)
            known = {ref: key for ref, (key, _) in stored.items()}
            again = frozenset(
                event.ref
                for event in events
                if event.ref in stored and stored[event.ref][1] == event.received_at
            )
            fresh = {event.ref: event for event in events if event.ref not in known}
            if not fresh:
                return Saved(known, frozenset(), {}, again)
            attached = {ref: resolver.resolve(event) for ref, event in fresh.items()}
            await _write_contacts(connection, resolver, wanted)
            contacts = {ref: resolver.survivor(owner) for ref, owner in attached.items()}
            await connection.copy_records_to_table(
                "events",
                columns=rows.EVENT_COLUMNS,
                records=[
                    rows.event(event, contacts[ref].id) for ref, event in sorted(fresh.items())
                ],
            )
        keys = {ref: contact.canonical_key for ref, contact in contacts.items()}
        return Saved(known | keys, frozenset(fresh), {}, again)

    async def page(self, wanted: ListEvents) -> EventPage:
        """List stored events, newest first."""
        filters = {
            "event": rows.storable(wanted.event),
            "user_id": rows.storable(wanted.user_id),
            "source": rows.storable(wanted.source),
        }
        async with (
            self._database.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await _queries.custom_plans(connection)
            total = await _queries.total(connection, **filters)
            found = [
                rows.stored_event(row)
                async for row in _queries.page(
                    connection, **filters, limit=wanted.limit, offset=wanted.offset
                )
            ]
        return EventPage(events=found, total=total, limit=wanted.limit, offset=wanted.offset)


async def _stored(
    connection: Any, events: Sequence[IncomingEvent]
) -> dict[EventRef, tuple[str, datetime]]:
    """Contact key and time of receipt of every event that is stored already."""
    found = _queries.stored_events(
        connection,
        sources=[event.ref.source for event in events],
        ids=[event.ref.id for event in events],
    )
    return {
        EventRef(row["source"], row["id"]): (row["contact_key"], row["received_at"])
        async for row in found
    }


async def _resolver(connection: Any, wanted: Mapping[Key, bytes]) -> IdentityResolver:
    """The contacts that keys lead to, locked; what leads nowhere is locked by its key."""
    found = await owners(connection, wanted)
    # A row's id is made up by us, so nobody else can be about to give it to a new contact.
    new = [wanted[key] for key in wanted.keys() - found.keys() if key.kind != ROW]
    if new:
        await _queries.lock_stripes(connection, stripes=_stripes(new))
        found = await owners(connection, wanted)
    ids = sorted(set(found.values()))
    contacts = [rows.contact(row) async for row in _queries.lock_contacts(connection, ids=ids)]
    if len(contacts) < len(ids):
        raise ContactsMoved
    return IdentityResolver(contacts, found)


async def owners(connection: Any, wanted: Mapping[Key, bytes]) -> dict[Key, UUID]:
    """Contacts that keys, given with their digests, lead to."""
    keys = list(wanted)
    found = _queries.owners(
        connection,
        kinds=[key.kind for key in keys],
        digests=list(wanted.values()),
        row_ids=[UUID(key.value) if key.kind == ROW else None for key in keys],
    )
    return {keys[row["position"] - 1]: row["contact_id"] async for row in found}


async def _write_contacts(
    connection: Any, resolver: IdentityResolver, digests: Mapping[Key, bytes]
) -> None:
    if changed := resolver.changed():
        await _queries.save_contacts(connection, contacts=rows.contacts(changed))
    if new_keys := resolver.new_keys():
        await _queries.save_keys(
            connection,
            kinds=[key.kind for key in new_keys],
            # A merge makes a key that no event named: the id of the contact that is gone.
            digests=[digests.get(key) or digest(key) for key in new_keys],
            key_values=[key.value for key in new_keys],
            contact_ids=list(new_keys.values()),
        )
    if merged := resolver.merged():
        losers = list(merged)
        await _queries.move_keys(connection, losers=losers, survivors=list(merged.values()))
        await _queries.delete_contacts(connection, ids=losers)


def digest(key: Key) -> bytes:
    """What a key is found by."""
    return hashlib.sha256(key.value.encode()).digest()


def _stripes(digests: Iterable[bytes]) -> list[int]:
    return sorted({int.from_bytes(digest[:4], "big") % LOCK_STRIPES for digest in digests})


def _joined(one: Saved, other: Saved) -> Saved:
    return Saved(
        one.contact_keys | other.contact_keys,
        one.new | other.new,
        one.rejected | other.rejected,
        one.again | other.again,
    )
