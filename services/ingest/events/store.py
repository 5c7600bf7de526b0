"""Stores events in PostgreSQL: a batch and its changes of contacts are one transaction.

Locking: a transaction locks the rows of its contacts. Keys without a contact are locked by advisory
locks. All locks are acquired in one global order, so replicas cannot deadlock: advisory locks by
number, contacts by id, and then keys of new events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import aiosql
import asyncpg
import msgspec
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.retry import retry_after_conflict
from services.ingest.contacts import storage as contacts
from services.ingest.erasure.freshness import is_stale
from services.ingest.erasure.tombstones import is_erased
from services.ingest.event_table.event_keys import Stored, is_of_unkeyed, shortened
from services.ingest.event_table.partitions import has_no_partition
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.events.rows import EVENT_COLUMNS, NO_CONTACT, event_row
from services.ingest.incoming_event import IncomingEvent

log = structlog.get_logger(__name__)

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


_New: TypeAlias = dict[bytes, tuple[IncomingEvent, UUID | None]]
"""Events that were not in the database before this batch, by their digests, each with the id of its
contact."""


class EventStore:
    """Stores events in the `ingest` schema."""

    def __init__(self, database: Database, table: EventTable) -> None:
        self._database = database
        self._table = table

    async def save(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        """Store the events that are new, and update their contacts.

        A batch that fails because of one event is halved until that event is alone, so that all
        others are stored. If this raises an error, any part of the batch may have been stored.

        Returns:
            The outcome of each event, in order.

        Raises:
            Unavailable: PostgreSQL is unavailable.
        """
        try:
            return await retry_after_conflict(
                lambda: self._save_once(events),
                is_conflict=_is_conflict,
                attempts=None,
                wait_max=1.0,
                wait_jitter=0.05,
            )
        except _FAULTS_OF_A_MESSAGE as error:
            if len(events) == 1:
                why = Unprocessable("rejected_by_database", f"{type(error).__name__}: {error}")
                return [Rejected(why)]
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL cannot be used: {type(error).__name__}") from error
        middle = len(events) // 2
        return await self.save(events[:middle]) + await self.save(events[middle:])

    async def find_erased(self, events: Sequence[IncomingEvent], *, since: float) -> set[int]:
        """Find events whose person was erased after they were stored.

        If such an event were published after the last sweep of the erasure, it would stay on the
        bus.

        Args:
            events: stored events that are about to be published.
            since: seconds on the event loop's clock, before they were stored or last checked.
                PostgreSQL is queried only if they are stale, see `erasure.freshness`.

        Returns:
            Their indices.

        Raises:
            Unavailable: PostgreSQL is unavailable.
        """
        if not events or not is_stale(since):
            return set()
        queried_at = asyncio.get_running_loop().time()
        async with self._database.transaction() as connection:
            erased = await contacts.erased(connection, contacts.digests_of(events))
        indices = {index for index, event in enumerate(events) if is_erased(event, erased)}
        if indices:
            log.info("events of an erased person are not published", events=len(indices))
        # The query's result may be stale by now, if PostgreSQL was slow or this process was frozen.
        return indices | await self.find_erased(events, since=queried_at)

    async def _save_once(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        try:
            return await self._save_in_transaction(events)
        except asyncpg.IntegrityConstraintViolationError as error:
            await self._prepare(error, events)
        return await self._save_prepared(events)

    async def _prepare(
        self, error: asyncpg.IntegrityConstraintViolationError, events: Sequence[IncomingEvent]
    ) -> None:
        """Remove the cause of a constraint violation, so that the events can be saved.

        Raises the error again if it has another cause.
        """
        if has_no_partition(error):
            await self._table.ensure_partitions({event.received_at for event in events})
        elif is_of_unkeyed(error):
            # A replica of the previous version stored an event meanwhile. An event without a person
            # has no lock.
            self._table.keys.clear_bounds()
        else:
            raise error

    async def _save_prepared(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        try:
            return await self._save_in_transaction(events)
        except asyncpg.CheckViolationError as error:
            if has_no_partition(error):
                # Another replica dropped the partition: all its events are past retention.
                raise Unavailable("the partition of an event was dropped; try again") from error
            raise

    async def _save_in_transaction(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        digests = [shortened(event.digest, event.ref.id) for event in events]
        new: _New = {}
        taken_over: dict[bytes, IncomingEvent] = {}
        dropped = set()
        async with self._database.acquire() as connection, connection.transaction():
            contact_digests = contacts.digests_of(events)
            resolver, erased = await contacts.lock(connection, contact_digests)
            # Read after the contacts are locked. Otherwise another replica could store the same
            # events after they were read as missing, and the insert would fail.
            stored = await self._table.keys.find(
                connection, dict(zip(digests, events, strict=True))
            )
            for digest, event in zip(digests, events, strict=True):
                if is_erased(event, erased):
                    dropped.add(id(event))
                elif (before := stored.get(digest)) is None:
                    if digest not in new:
                        new[digest] = event, resolver.resolve(event)
                elif before.backfilled and not event.backfilled:
                    taken_over[digest] = event
            if new:
                await contacts.save(connection, resolver, contact_digests)
                await self._table.keys.remember(connection, {one: new[one][0] for one in new})
                await _insert(connection, new)
            await self._take_over(connection, taken_over, stored)

        def outcome(digest: bytes, event: IncomingEvent) -> Outcome:
            if id(event) in dropped:
                return Saved(Status.ERASED, "")
            if (before := stored.get(digest)) is not None:
                return _saved_before(event, before, taken_over=taken_over.get(digest) is event)
            first, contact_id = new[digest]
            contact_key = resolver.survivor(contact_id).canonical_key if contact_id else ""
            return Saved(Status.STORED if first is event else Status.KNOWN, contact_key)

        return list(map(outcome, digests, events))

    async def _take_over(
        self,
        connection: Any,
        events: Mapping[bytes, IncomingEvent],
        stored: Mapping[bytes, Stored],
    ) -> None:
        if not events:
            return
        sources, ids, names, user_ids = zip(*(event.key for event in events.values()), strict=True)
        await _queries.take_over(
            connection,
            sources=sources,
            ids=ids,
            names=names,
            user_ids=user_ids,
            backfilled_at=[stored[digest].received_at for digest in events],
            received_at=[event.received_at for event in events.values()],
            queued_at=[event.queued_at for event in events.values()],
        )
        await self._table.keys.move(connection, events)


def _is_conflict(error: Exception) -> bool:
    """Whether a transaction failed because of another one; then it is started again."""
    if isinstance(error, asyncpg.UniqueViolationError):
        # An event without a person has no contact to lock. Another transaction has just stored it.
        return getattr(error, "table_name", None) == "event_keys"
    return isinstance(error, contacts.CONFLICTS)


def _saved_before(event: IncomingEvent, before: Stored, *, taken_over: bool) -> Saved:
    # Each message has its own time of receipt, in microseconds, and the row has that of the message
    # that stored it. So a redelivery of this message is recognised even if JetStream has lost its
    # delivery count. An event that a backfill stored was not published: the webhook that repeats
    # the event publishes it.
    same = taken_over or before.received_at == event.received_at
    return Saved(Status.REDELIVERED if same else Status.KNOWN, before.contact_key)


async def _insert(connection: Any, new: _New) -> None:
    await connection.copy_records_to_table(
        "events",
        columns=EVENT_COLUMNS,
        records=[
            # The contact as it was resolved, though a later event of the batch may have merged it.
            # Its row key leads to the survivor, and a split returns these events to it.
            event_row(event, contact_id or NO_CONTACT)
            for event, contact_id in new.values()
        ],
    )
