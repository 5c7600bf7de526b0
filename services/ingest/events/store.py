"""Events in PostgreSQL: a batch and the contacts it changes are one transaction.

Locking: a transaction locks its contacts' rows; keys without a row are locked by advisory lock. All
locks are taken in one global order, so replicas cannot deadlock: advisory locks by number, contacts
by id, and then new events by their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import aiosql
import asyncpg
import msgspec
import stamina

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import EventPage, ListEvents
from hogsend.service.database import Database
from hogsend.service.dead_letters import Unprocessable
from services.ingest.contacts import storage as contacts
from services.ingest.erasure.tombstones import erased_among, is_erased
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.events.rows import EVENT_COLUMNS, NOBODY, event_row, stored_event
from services.ingest.incoming_event import EventKey, IncomingEvent
from services.ingest.nul import text_without_nul
from services.ingest.pages import (
    EXACT_TOTAL,
    EventPosition,
    cursor,
    estimated_rows,
    position,
)

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")

_FAULTS_OF_A_MESSAGE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    msgspec.MsgspecError,
    ValueError,
    OverflowError,
    RecursionError,
)


class _Stored(NamedTuple):
    """An event that was in the database before this batch."""

    contact_key: str
    received_at: datetime
    backfilled: bool


class EventStore:
    """Events of the `ingest` schema. Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        """Store the events that are new, and update their contacts.

        A batch that fails because of an event is halved until that event is alone, so that all
        others are stored. When this raises, any part of the batch may have been stored.

        Returns:
            The outcome of each event, in order.
        """
        try:
            return await self._save_unless_conflict(events)
        except _FAULTS_OF_A_MESSAGE as error:
            if len(events) == 1:
                why = Unprocessable("rejected_by_database", f"{type(error).__name__}: {error}")
                return [Rejected(why)]
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL does not work: {type(error).__name__}") from error
        middle = len(events) // 2
        return await self.save(events[:middle]) + await self.save(events[middle:])

    async def _save_unless_conflict(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        # Not `retry_until_available`: PostgreSQL is available and the other transaction is short,
        # so health must not report an outage and the pause must be shorter. Not stamina's decorator
        # either: it would log its arguments, which are people's data.
        async for attempt in stamina.retry_context(
            on=contacts.CONFLICTS,
            attempts=None,
            timeout=None,
            wait_initial=0.01,
            wait_max=1.0,
            wait_jitter=0.05,
        ):
            with attempt:
                return await self._save_in_transaction(events)
        raise AssertionError("retries never end")

    async def _save_in_transaction(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        new: dict[EventKey, tuple[IncomingEvent, UUID | None]] = {}
        async with self._database.acquire() as connection, connection.transaction():
            digests = contacts.digests_of(events)
            resolver = await contacts.lock(connection, digests)
            # Read only after the contacts are locked. Before that, another replica could store the
            # same events after they were read as missing, and the insert would fail.
            stored = await _stored(connection, events)
            erased = await erased_among(connection, digests)
            for event in events:
                if is_erased(event, erased):
                    continue
                if event.key not in stored and event.key not in new:
                    new[event.key] = event, resolver.resolve(event)
            if new:
                await contacts.save(connection, resolver, digests)
                await connection.copy_records_to_table(
                    "events",
                    columns=EVENT_COLUMNS,
                    records=[
                        event_row(event, resolver.survivor(contact_id).id if contact_id else NOBODY)
                        for _, (event, contact_id) in sorted(new.items())
                    ],
                )
            taken_over = {
                event.key: event
                for event in events
                if not event.backfilled and event.key in stored and stored[event.key].backfilled
            }
            await _take_over(connection, list(taken_over.values()))

        def outcome(event: IncomingEvent) -> Outcome:
            if is_erased(event, erased):
                return Saved(Status.ERASED, "")
            if (before := stored.get(event.key)) is not None:
                # The gateway stamps each message with its own time of receipt, in microseconds. The
                # row has the time of the message that stored it, and tells it from a repetition
                # even when JetStream has forgotten that it delivered the message before.
                same = before.received_at == event.received_at
                if taken_over.get(event.key) is event:
                    # Nobody was told when a backfill stored it; now it comes as it happened.
                    same = True
                return Saved(Status.REDELIVERED if same else Status.KNOWN, before.contact_key)
            first, contact_id = new[event.key]
            contact_key = resolver.survivor(contact_id).canonical_key if contact_id else ""
            return Saved(Status.STORED if first is event else Status.KNOWN, contact_key)

        return [outcome(event) for event in events]

    async def page(self, wanted: ListEvents) -> EventPage:
        """List stored events, the latest that happened first."""
        filters = {
            "event": text_without_nul(wanted.event),
            "user_id": text_without_nul(wanted.user_id),
            "source": text_without_nul(wanted.source),
            "occurred_from": wanted.occurred_from,
            "occurred_to": wanted.occurred_to,
        }
        before = position(EventPosition, wanted.before)
        async with self._database.acquire(snapshot=True) as connection:
            await _queries.custom_plans(connection)
            total = await _queries.total(connection, **filters, most=EXACT_TOTAL + 1)
            if estimated := total > EXACT_TOTAL:
                total = estimated_rows(await _queries.expected_total(connection, **filters))
            rows = [
                row
                async for row in _queries.page(
                    connection,
                    **filters,
                    before=before is not None,
                    before_occurred=before and before.occurred_at,
                    before_received=before and before.received_at,
                    before_source=before and before.source,
                    before_id=before and before.id,
                    before_event=before and before.event_hash,
                    before_user=before and before.user_hash,
                    # One more than is shown tells whether there is another page.
                    limit=wanted.limit + 1,
                    offset=wanted.offset,
                )
            ]
        shown = rows[: wanted.limit]
        more = len(rows) > len(shown)
        return EventPage(
            events=[stored_event(row) for row in shown],
            total=total,
            total_estimated=estimated,
            limit=wanted.limit,
            offset=wanted.offset,
            next_before=cursor(_position(shown[-1])) if more else None,
        )


def _position(row: Any) -> EventPosition:
    return EventPosition(*(row[name] for name in EventPosition.__struct_fields__))


async def _take_over(connection: Any, events: Sequence[IncomingEvent]) -> None:
    if events:
        await _queries.take_over(
            connection,
            sources=[event.key.source for event in events],
            ids=[event.key.id for event in events],
            names=[event.name for event in events],
            user_ids=[event.user_id for event in events],
            received_at=[event.received_at for event in events],
        )


async def _stored(connection: Any, events: Sequence[IncomingEvent]) -> dict[EventKey, _Stored]:
    """Return those of `events` that are stored already."""
    found = _queries.stored_events(
        connection,
        sources=[event.key.source for event in events],
        ids=[event.key.id for event in events],
        names=[event.name for event in events],
        user_ids=[event.user_id for event in events],
    )
    return {
        EventKey(row["source"], row["id"], row["event"], row["user_id"]): _Stored(
            row["contact_key"], row["received_at"], row["backfilled"]
        )
        async for row in found
    }
