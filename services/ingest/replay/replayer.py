"""Delivers events to one durable again, a part at a time, and cleans up afterwards.

Copies of the events are published to the stream EVENTS, on a subject of this durable alone. They
have message ids of their own: JetStream would drop copies with the ids of the events as duplicates.
About `MOST_COPIES` of them wait for a durable at most, so that they do not push events out of the
stream.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.errors import (
    HogsendError,
    InvalidRequest,
    NotFound,
    PublishRejected,
    TooLarge,
    Unavailable,
)
from hogsend.contract.headers import MESSAGE_ID, ORIGINAL_ID, REPLAY, message_id
from hogsend.contract.replays import EventsReplayed, Moment, ReplayEvents
from hogsend.contract.streams import StreamName
from hogsend.service import metrics
from hogsend.service.database import Database
from hogsend.service.locks import Busy, HeldLock, LockKey, LockScope, exclusive
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.erasure.freshness import is_stale
from services.ingest.pages import EventPosition, decode_cursor, encode_cursor
from services.ingest.replay.announced import (
    REORDERED_WITHIN,
    AnnouncedEvent,
    AnnouncedEvents,
)
from services.ingest.replay.consumers import ReplayConsumers

BUDGET_SECONDS = 8.0
"""After this long a request returns, and the next one continues."""
MOST_COPIES = 10_000
"""No further copies are published while so many wait for the durable."""
POLL_SECONDS = 0.25
"""Pause between two checks whether the durable has acknowledged copies."""
TIDY_SECONDS = 30.0
"""Pause between two cleanups."""
CLOCK_SKEW = timedelta(hours=1)
"""How far the clock of an event's reporter may be ahead of JetStream's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


class ReplayPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The position from which a replay continues."""

    id: str
    """Id of the replay."""
    until: Moment
    last: int
    """Last sequence in the stream that is replayed."""
    sequence: int | None
    """Next sequence in the stream; None while events are read from PostgreSQL."""
    received_before: Moment | None = None
    """Events that were received before are read from PostgreSQL; None is all."""
    row: EventPosition | None = None
    """The last event that was read from PostgreSQL."""


class _Part(NamedTuple):
    """Events that were read together."""

    events: Sequence[AnnouncedEvent]
    after: ReplayPosition | None
    """The position after them; None at the end of the replay."""


class EventReplayer:
    """Replays events to durables."""

    def __init__(
        self,
        database: Database,
        link: Connection,
        publisher: Publisher,
        *,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        self._database = database
        self._link = link
        self._publisher = publisher
        self._budget = budget_seconds
        self._events = AnnouncedEvents(link, database)
        self._consumers = ReplayConsumers(link)
        self._stream_start: tuple[str, frozenset[str]] = "", frozenset()
        """Id of the last replay, and the message ids of the first events in the stream: a cache."""
        self._orphaned: frozenset[str] = frozenset()
        """Subjects of copies that no durable read at the last cleanup."""

    async def replay(self, request: ReplayEvents) -> EventsReplayed:
        """Publish the next part of a replay to a durable, or count its events.

        Raises:
            NotFound: the durable does not exist.
            InvalidRequest: the consumer is Hogsend's own, the span is empty, or `after` is not from
                the reply before.
            Unavailable: NATS or PostgreSQL is unavailable, or another replay to the durable runs;
                the same part may be requested again.
        """
        filters = await self._consumers.filters(request.durable)
        start = await self._start(request)
        if request.dry_run:
            return await self._count(request, start, filters)
        async with self._exclusive(request.durable) as lock:
            await self._consumers.open(request.durable)
            return await self._publish(request, start, filters, lock)

    async def tidy_forever(self) -> None:
        """Clean up every `TIDY_SECONDS`; never ends."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if not self._link.connected:
                continue
            try:
                await self.tidy()
            except HogsendError as error:
                metrics.FAILURES.labels("replay", error.code).inc()
                log.warning("copies of replays are not cleaned up yet", reason=str(error))

    async def tidy(self) -> None:
        """Delete copies that are acknowledged or have no reader; remove filters without copies.

        Raises:
            Unavailable: NATS or PostgreSQL is unavailable.
        """
        copies = await self._consumers.copies()
        opened = await self._consumers.open_durables()
        # A replay adds the filter to its durable before it publishes copies. So copies without a
        # filter have no reader: the durable was deleted, and perhaps created again. Copies that
        # are published from now on, after `copies.last`, are left alone.
        orphaned = frozenset(copies.counts).difference(chain.from_iterable(opened.values()))
        # Deleted at the second cleanup that finds them without a reader: JetStream's list of
        # consumers is incomplete while one of its servers is down.
        for subject in orphaned & self._orphaned:
            await self._consumers.delete_copies(subject, copies.last)
        self._orphaned = orphaned
        for durable in opened:
            try:
                async with self._exclusive(durable):
                    if not await self._consumers.delete_acknowledged(durable):
                        await self._consumers.close(durable)
            except (Busy, NotFound, InvalidRequest):
                # Its replay is running, it was deleted meanwhile, or it may not get a replay.
                continue
            except HogsendError as error:
                # The other durables are cleaned up nevertheless.
                metrics.FAILURES.labels("replay", error.code).inc()
                log.warning(
                    "copies for a durable are not cleaned up yet",
                    durable=durable,
                    reason=str(error),
                )

    def _exclusive(self, durable: str) -> AbstractAsyncContextManager[HeldLock]:
        return exclusive(
            self._database,
            LockKey.of_pair("replay", durable),
            scope=LockScope.SESSION,
            wait_seconds=0,
            idle_seconds=60,
            busy=f"another replay to {durable!r} runs; try again when it has ended",
        )

    async def _start(self, request: ReplayEvents) -> ReplayPosition:
        invalid = "after must be what the part before this one gave"
        if (after := decode_cursor(ReplayPosition, request.after, invalid)) is not None:
            return after
        until = request.until or await self._events.current_time()
        if until <= request.since:
            raise InvalidRequest("the span is empty: until is not after since")
        extent = await self._events.extent()
        edge = extent.received_since and extent.received_since + REORDERED_WITHIN
        start = ReplayPosition(secrets.token_hex(8), until, extent.last, None, edge)
        if edge is not None and request.since >= edge:
            return await self._from_stream(request, start)
        return start

    async def _from_stream(self, request: ReplayEvents, start: ReplayPosition) -> ReplayPosition:
        # JetStream takes a time some centuries ago for a time in the future.
        since = max(request.since, _EPOCH) - CLOCK_SKEW
        first = await self._events.first_sequence_since(since)
        sequence = start.last + 1 if first is None else first
        return msgspec.structs.replace(start, sequence=sequence, row=None)

    async def _read(self, request: ReplayEvents, start: ReplayPosition) -> _Part:
        if start.sequence is None:
            events = await self._events.read_database(
                request.since, start.until, received_before=start.received_before, after=start.row
            )
            if not events:
                return _Part([], await self._from_stream(request, start))
            after = msgspec.structs.replace(start, row=events[-1].row)
            return _Part(await self._not_in_stream(start, events), after)
        if start.sequence > start.last:
            return _Part([], None)
        events = await self._events.read_stream(start.sequence)
        if not events:
            return _Part([], None)
        after = msgspec.structs.replace(start, sequence=events[-1].sequence + 1)
        span = [event for event in events if request.since <= event.occurred_at < start.until]
        return _Part([event for event in span if event.sequence <= start.last], after)

    async def _not_in_stream(
        self, start: ReplayPosition, events: Sequence[AnnouncedEvent]
    ) -> Sequence[AnnouncedEvent]:
        """Leave out events from PostgreSQL that are in the stream: they are read there later."""
        edge = start.received_before
        if edge is None or all(event.received_at < edge - REORDERED_WITHIN for event in events):
            return events
        if self._stream_start[0] != start.id:
            self._stream_start = start.id, await self._events.ids_at_start(edge)
        ids = self._stream_start[1]
        return [event for event in events if message_id(event.headers) not in ids]

    async def _count(
        self, request: ReplayEvents, start: ReplayPosition, filters: Sequence[str]
    ) -> EventsReplayed:
        count, at, deadline = 0, start, time.monotonic() + self._budget
        while True:
            part = await self._read(request, at)
            count += len(_matching(part.events, filters))
            if part.after is None or time.monotonic() > deadline:
                return _result(at, part.after, count=count)
            at = part.after

    async def _publish(
        self,
        request: ReplayEvents,
        start: ReplayPosition,
        filters: Sequence[str],
        lock: HeldLock,
    ) -> EventsReplayed:
        count = omitted = 0
        at, deadline = start, time.monotonic() + self._budget
        while True:
            waiting = await self._consumers.delete_acknowledged(request.durable)
            if waiting >= MOST_COPIES:
                if time.monotonic() > deadline:
                    return _result(at, at, count=count, omitted=omitted, waiting=waiting)
                await asyncio.sleep(POLL_SECONDS)
                continue
            read_at = asyncio.get_running_loop().time()
            part = await self._read(request, at)
            await lock.confirm()
            copies = [
                _copy(one, start.id, request.durable) for one in _matching(part.events, filters)
            ]
            if is_stale(read_at):
                # An erasure may have deleted some of these events since they were read. Copies that
                # are published after its last sweep would stay, so the part is read again.
                return _result(at, at, count=count, omitted=omitted, waiting=waiting)
            for outcome in await self._publisher.publish_all(copies):
                if isinstance(outcome, TooLarge):
                    omitted += 1
                elif isinstance(outcome, PublishRejected):
                    raise Unavailable(str(outcome)) from outcome
                else:
                    count += 1
            if part.after is None or time.monotonic() > deadline:
                waiting += len(copies)
                log.info("events replayed", durable=request.durable, id=start.id, count=count)
                return _result(at, part.after, count=count, omitted=omitted, waiting=waiting)
            at = part.after


def _matching(events: Sequence[AnnouncedEvent], filters: Sequence[str]) -> list[AnnouncedEvent]:
    """The events whose subject matches one of a consumer's filters."""
    return [
        event
        for event in events
        if any(subjects.covers(pattern, event.subject) for pattern in filters)
    ]


def _copy(event: AnnouncedEvent, id: str, durable: str) -> OutgoingMessage:
    subject, original_id = subjects.replay(durable), message_id(event.headers) or ""
    headers: Mapping[str, str] = {
        **event.headers,
        MESSAGE_ID: f"replay:{id}:{subject}:{original_id}",
        ORIGINAL_ID: original_id,
        REPLAY: id,
        "Nats-Expected-Stream": StreamName.EVENTS,
    }
    return OutgoingMessage(subject, event.body, headers)


def _result(
    start: ReplayPosition,
    after: ReplayPosition | None,
    *,
    count: int,
    omitted: int = 0,
    waiting: int = 0,
) -> EventsReplayed:
    return EventsReplayed(
        id=start.id,
        count=count,
        left_out=omitted,
        waiting=waiting,
        until=start.until,
        after=None if after is None else encode_cursor(after),
    )
