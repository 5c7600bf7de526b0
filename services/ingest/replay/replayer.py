"""Delivers events to one durable again, a part at a time, and tidies up afterwards.

Copies go into the stream EVENTS, on a subject of the durable's own, with message ids of their own:
with the ids of the events JetStream would drop them as repeats. Never more than `MOST_COPIES` of
them wait, so that they do not push events out of the stream.
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
from services.ingest.pages import EventPosition, cursor, position
from services.ingest.replay.announced import (
    UNORDERED,
    Announced,
    AnnouncedEvents,
)
from services.ingest.replay.consumers import ReplayConsumers

BUDGET_SECONDS = 8.0
"""How long one part takes at most."""
MOST_COPIES = 10_000
"""Copies that wait for one durable."""
LOOK_SECONDS = 0.25
"""How soon is looked again whether the durable has acknowledged some."""
TIDY_SECONDS = 30.0
CLOCKS = timedelta(hours=1)
"""How far ahead of ours the clock of a reporter of events may be."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


class ReplayPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a replay goes on."""

    id: str
    until: Moment
    last: int
    """Sequence in the stream at which it ends."""
    sequence: int | None
    """Next one in the stream; None while events are read from PostgreSQL."""
    received_before: Moment | None = None
    """PostgreSQL has to give what was received before."""
    row: EventPosition | None = None


class _Part(NamedTuple):
    """What was read at once."""

    events: Sequence[Announced]
    after: ReplayPosition | None


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
        self._beginning: tuple[str, frozenset[str]] = "", frozenset()
        """Of the replay that was asked for last: what is at the beginning of the stream."""
        self._unread: frozenset[str] = frozenset()
        """Subjects of copies that no durable read when it was looked last."""

    async def replay(self, wanted: ReplayEvents) -> EventsReplayed:
        """Give the durable the next part, or count it.

        Raises:
            NotFound: there is no such durable.
            InvalidRequest: it is Hogsend's own, the span is empty, or `after` is none of a replay.
            Unavailable: NATS or PostgreSQL cannot be used, or another replay to the durable runs;
                the same part may be asked for again.
        """
        filters = await self._consumers.filters(wanted.durable)
        start = await self._start(wanted)
        if wanted.dry_run:
            return await self._count(wanted, start, filters)
        async with self._alone(wanted.durable) as lock:
            await self._consumers.open(wanted.durable)
            return await self._publish(wanted, start, filters, lock)

    async def tidy_forever(self) -> None:
        """Tidy up again and again; never ends."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if not self._link.connected:
                continue
            try:
                await self.tidy()
            except HogsendError as error:
                metrics.FAILURES.labels("replay", error.code).inc()
                log.warning("replays are not tidied up after yet", reason=str(error))

    async def tidy(self) -> None:
        """Delete copies that are acknowledged or have no reader, take back filters without copies.

        Raises:
            Unavailable: NATS or PostgreSQL cannot be used.
        """
        copies = await self._consumers.copies()
        opened = await self._consumers.opened()
        # A replay has its durable read them before it publishes any. So these have no reader: the
        # consumer was deleted, and perhaps made again. What is published from now on is not meant.
        unread = frozenset(copies.counts).difference(chain.from_iterable(opened.values()))
        # Seen twice: JetStream's list of consumers is incomplete while one of its servers is down.
        for subject in unread & self._unread:
            await self._consumers.forget(subject, copies.last)
        self._unread = unread
        for durable in opened:
            try:
                async with self._alone(durable):
                    if not await self._consumers.forget_acknowledged(durable):
                        await self._consumers.close(durable)
            except (Busy, NotFound, InvalidRequest):
                # Its replay goes on, it was deleted meanwhile, or no replay may be to it.
                continue
            except HogsendError as error:
                # The others may do.
                metrics.FAILURES.labels("replay", error.code).inc()
                log.warning(
                    "a replay is not tidied up after yet", durable=durable, reason=str(error)
                )

    def _alone(self, durable: str) -> AbstractAsyncContextManager[HeldLock]:
        return exclusive(
            self._database,
            LockKey.of_pair("replay", durable),
            scope=LockScope.SESSION,
            wait_seconds=0,
            idle_seconds=60,
            busy=f"another replay to {durable!r} runs; try again when it has ended",
        )

    async def _start(self, wanted: ReplayEvents) -> ReplayPosition:
        after = "after must be what the part before this one gave"
        if (goes_on := position(ReplayPosition, wanted.after, after)) is not None:
            return goes_on
        until = wanted.until or await self._events.now()
        if until <= wanted.since:
            raise InvalidRequest("the span is empty: until is not after since")
        extent = await self._events.extent()
        edge = extent.received_since and extent.received_since + UNORDERED
        start = ReplayPosition(secrets.token_hex(8), until, extent.last, None, edge)
        if edge is not None and wanted.since >= edge:
            return await self._in_stream(wanted, start)
        return start

    async def _in_stream(self, wanted: ReplayEvents, start: ReplayPosition) -> ReplayPosition:
        # JetStream takes a time of some centuries ago for one that is to come.
        since = max(wanted.since, _EPOCH) - CLOCKS
        first = await self._events.first_in_stream(since)
        sequence = start.last + 1 if first is None else first
        return msgspec.structs.replace(start, sequence=sequence, row=None)

    async def _read(self, wanted: ReplayEvents, start: ReplayPosition) -> _Part:
        if start.sequence is None:
            found = await self._events.in_database(
                wanted.since, start.until, received_before=start.received_before, after=start.row
            )
            if not found:
                return _Part([], await self._in_stream(wanted, start))
            after = msgspec.structs.replace(start, row=found[-1].row)
            return _Part(await self._not_in_stream(start, found), after)
        if start.sequence > start.last:
            return _Part([], None)
        found = await self._events.in_stream(start.sequence)
        if not found:
            return _Part([], None)
        after = msgspec.structs.replace(start, sequence=found[-1].sequence + 1)
        span = [one for one in found if wanted.since <= one.occurred_at < start.until]
        return _Part([one for one in span if one.sequence <= start.last], after)

    async def _not_in_stream(
        self, start: ReplayPosition, found: Sequence[Announced]
    ) -> Sequence[Announced]:
        """Without events of PostgreSQL that the stream has: those are read from there."""
        edge = start.received_before
        if edge is None or all(one.received_at < edge - UNORDERED for one in found):
            return found
        if self._beginning[0] != start.id:
            self._beginning = start.id, await self._events.at_beginning(edge)
        return [one for one in found if message_id(one.headers) not in self._beginning[1]]

    async def _count(
        self, wanted: ReplayEvents, start: ReplayPosition, filters: Sequence[str]
    ) -> EventsReplayed:
        count, at, ends = 0, start, time.monotonic() + self._budget
        while True:
            part = await self._read(wanted, at)
            count += len(_of_interest(part.events, filters))
            if part.after is None or time.monotonic() > ends:
                return _done(at, part.after, count=count)
            at = part.after

    async def _publish(
        self,
        wanted: ReplayEvents,
        start: ReplayPosition,
        filters: Sequence[str],
        lock: HeldLock,
    ) -> EventsReplayed:
        count = left_out = 0
        at, ends = start, time.monotonic() + self._budget
        while True:
            waiting = await self._consumers.forget_acknowledged(wanted.durable)
            if waiting >= MOST_COPIES:
                if time.monotonic() > ends:
                    return _done(at, at, count=count, left_out=left_out, waiting=waiting)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            read_at = asyncio.get_running_loop().time()
            part = await self._read(wanted, at)
            await lock.confirm()
            copies = [
                _copy(one, start.id, wanted.durable) for one in _of_interest(part.events, filters)
            ]
            if is_stale(read_at):
                # An erasure may have deleted some of these events since they were read. Copies that
                # are published after its last sweep would stay, so the part is read again.
                return _done(at, at, count=count, left_out=left_out, waiting=waiting)
            for outcome in await self._publisher.publish_all(copies):
                if isinstance(outcome, TooLarge):
                    left_out += 1
                elif isinstance(outcome, PublishRejected):
                    raise Unavailable(str(outcome)) from outcome
                else:
                    count += 1
            if part.after is None or time.monotonic() > ends:
                waiting += len(copies)
                log.info("events replayed", durable=wanted.durable, id=start.id, count=count)
                return _done(at, part.after, count=count, left_out=left_out, waiting=waiting)
            at = part.after


def _of_interest(events: Sequence[Announced], filters: Sequence[str]) -> list[Announced]:
    return [
        one for one in events if any(subjects.covers(wanted, one.subject) for wanted in filters)
    ]


def _copy(event: Announced, id: str, durable: str) -> OutgoingMessage:
    own, known_as = subjects.replay(durable), message_id(event.headers) or ""
    headers: Mapping[str, str] = {
        **event.headers,
        MESSAGE_ID: f"replay:{id}:{own}:{known_as}",
        ORIGINAL_ID: known_as,
        REPLAY: id,
        "Nats-Expected-Stream": StreamName.EVENTS,
    }
    return OutgoingMessage(own, event.body, headers)


def _done(
    start: ReplayPosition,
    after: ReplayPosition | None,
    *,
    count: int,
    left_out: int = 0,
    waiting: int = 0,
) -> EventsReplayed:
    return EventsReplayed(
        id=start.id,
        count=count,
        left_out=left_out,
        waiting=waiting,
        until=start.until,
        after=None if after is None else cursor(after),
    )
