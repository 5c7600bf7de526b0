"""Runs the backfill: reads a page from PostHog, has ingest store it, and keeps the position.

The position moves after ingest has committed. A process that dies in between reads the same events
again, and ingest tells by the time of receipt, which is the backfill's start, that it was the one
who stored them. So nothing is lost, and neither rows nor counts double.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Never
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Counter

from hogsend.contract.backfills import INGEST_STORE_PAST, PastEvent, PastStored, StorePast
from hogsend.contract.errors import HogsendError, TooLarge, Unavailable
from hogsend.posthog.api import PostHogError
from hogsend.posthog.api.queries import EventRange
from hogsend.posthog.errors import PostHogResponseTooLarge
from hogsend.service import metrics
from hogsend.service.locks import Busy
from hogsend.transport.connection import Connection
from services.provisioner.backfill.posthog_events import PostHogEvents, Refused, is_too_heavy
from services.provisioner.backfill.span import Span
from services.provisioner.backfill.store import BackfillStore, Job
from services.provisioner.destination.errors import describe

log = structlog.get_logger(__name__)

PAGE_EVENTS = 5_000
"""Events in one query. PostHog gives 50,000 at most, and allows 120 queries an hour."""
CHUNK_EVENTS = 500
"""Events that ingest stores in one transaction."""
CHUNK_SHARE = 0.5
"""Part of the largest message that events may take as they are encoded."""
LOOK_SECONDS = 2.0
"""How often a replica looks for a backfill that another one was asked for."""
LIMITED_SECONDS = 60.0
"""Pause after a 429 that does not say for how long."""
FAILED_SECONDS = 10.0
"""Pause after PostHog failed."""
NOTHING = PastStored(stored=0, known=0, rejected=0)

EVENTS = Counter("hogsend_backfilled_events", "Events that backfills read, by outcome", ["outcome"])


class BackfillRunner:
    """Does what there is to do, one page after another."""

    def __init__(self, store: BackfillStore, posthog: PostHogEvents, link: Connection) -> None:
        """Read from `posthog`, and store through `link`."""
        self._store = store
        self._posthog = posthog
        self._link = link
        self._page_events = PAGE_EVENTS
        self._paged: UUID | None = None
        """The backfill that the size of a page, and the time it is of, were found for."""
        self._span: Span | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> Never:
        """Run until cancelled."""
        while True:
            try:
                await self._work()
            except Busy as error:
                log.debug("another replica runs the backfill", reason=str(error))
            except Unavailable as error:
                # PostgreSQL or ingest is down, which health reports.
                metrics.FAILURES.labels("backfill", error.code).inc()
                log.debug("the backfill waits", reason=str(error))
            except HogsendError as error:
                metrics.FAILURES.labels("backfill", error.code).inc()
                log.warning("the backfill waits", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _work(self) -> None:
        if await self._store.due() is None:
            return
        async with self._store.lock() as lock:
            while (job := await self._store.due()) is not None:
                await lock.confirm()
                await self._step(job)

    async def _step(self, job: Job) -> None:
        if job.id != self._paged or self._span is None:
            self._paged, self._page_events = job.id, PAGE_EVENTS
            self._span = Span(job, PAGE_EVENTS)
        try:
            await self._read_on(job, self._span)
        except Refused as error:
            refusal = error.refusal
            metrics.FAILURES.labels("backfill", refusal.code).inc()
            log.warning("the backfill failed", code=refusal.code, detail=refusal.detail)
            await self._store.end(job.id, "failed", refusal.detail, refusal.remediation)
        except PostHogError as error:
            await self._pause(job, error)

    async def _read_on(self, job: Job, span: Span) -> None:
        limit = self._page_events
        asked = span.of(job)
        try:
            page = await self._posthog.ask(lambda queries: queries.page(asked, limit), job.project)
        except PostHogResponseTooLarge:
            if limit > 1:
                raise
            await self._leave_out_next(job, asked)
            return
        span.fit(asked, page, limit)
        self._page_events = min(PAGE_EVENTS, limit * 2)
        # Not with the same size again: in a longer page, an event may follow.
        if page.unreadable and not page.events:
            raise PostHogError("no row of PostHog's answer is an event")
        if (received := await self._store.receive(job)) is None:
            return
        job = received
        for chunk in self._chunks(page.events):
            done = await self._record(job, chunk)
            last = chunk[-1].timestamp, chunk[-1].uuid
            if not await self._store.advance(job, last, len(chunk), done):
                return
            job = msgspec.structs.replace(job, position_at=last[0], position_uuid=last[1])
        if page.unreadable:
            log.warning("rows of PostHog's answer are not events", rows=page.unreadable)
            EVENTS.labels("unreadable").inc(page.unreadable)
        if page.events:
            return
        if asked.until < job.until:
            await self._store.advance(job, (asked.until, ""), 0, NOTHING)
            return
        await self._store.end(job.id, "finished")
        log.info("the backfill is finished", id=str(job.id))

    async def _leave_out_next(self, job: Job, asked: EventRange) -> None:
        position = await self._posthog.ask(
            lambda queries: queries.next_position(asked), job.project
        )
        if position is None:
            return
        moment, uuid = position
        log.warning("an event is too large to be read from PostHog", id=uuid, timestamp=moment)
        EVENTS.labels("rejected").inc()
        which = f"The event {uuid} of {moment.isoformat()} is too large to be read from PostHog."
        left_out = PastStored(stored=0, known=0, rejected=1)
        await self._store.advance(job, position, 1, left_out, left_out=which)

    async def _pause(self, job: Job, error: PostHogError) -> None:
        metrics.FAILURES.labels("backfill", str(error.status or "no_answer")).inc()
        if error.status == 429:  # noqa: PLR2004
            seconds = LIMITED_SECONDS if error.retry_after is None else error.retry_after
            remedy = None
        else:
            heavy = is_too_heavy(error)
            if heavy or isinstance(error, PostHogResponseTooLarge):
                self._page_events = max(1, self._page_events // 2)
            if heavy and self._span is not None:
                self._span.shorten()
            seconds = FAILED_SECONDS if error.retry_after is None else error.retry_after
            remedy = "It goes on by itself when PostHog works again."
        log.warning("the backfill waits for PostHog", seconds=seconds, reason=str(error))
        await self._store.wait(job, seconds, describe(error), remedy)

    async def _record(self, job: Job, events: Sequence[PastEvent]) -> PastStored:
        past = StorePast(
            events=list(events),
            received_at=job.received_at or job.started_at,
            announce=job.announce,
        )
        try:
            done = await self._link.request(INGEST_STORE_PAST, past)
        except TooLarge:
            # One event by itself: `_chunks` leaves room.
            log.warning("a past event is larger than NATS takes", id=events[0].uuid)
            done = PastStored(stored=0, known=0, rejected=len(events))
        EVENTS.labels("stored").inc(done.stored)
        EVENTS.labels("known").inc(done.known)
        EVENTS.labels("rejected").inc(done.rejected)
        return done

    def _chunks(self, events: Sequence[PastEvent]) -> Iterator[Sequence[PastEvent]]:
        room = self._link.max_payload * CHUNK_SHARE
        chunk: list[PastEvent] = []
        size = 0
        for event in events:
            length = len(msgspec.json.encode(event))
            if chunk and (len(chunk) == CHUNK_EVENTS or size + length > room):
                yield chunk
                chunk, size = [], 0
            chunk.append(event)
            size += length
        if chunk:
            yield chunk
