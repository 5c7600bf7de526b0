"""Runs the backfill: reads a page from PostHog, sends it to ingest, and saves the position.

The position is saved after ingest has committed the events. A process that dies in between reads
the same events again. Ingest recognizes them by their time of receipt, which is the same as at the
first attempt, and counts them as stored. So no event is lost, and neither rows nor counts double.
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
from services.provisioner.backfill.job import Job
from services.provisioner.backfill.posthog_events import PostHogEvents, Refused, is_too_heavy
from services.provisioner.backfill.span import Span
from services.provisioner.backfill.store import BackfillStore
from services.provisioner.destination.posthog_errors import describe

log = structlog.get_logger(__name__)

PAGE_EVENTS = 5_000
"""Limit of events in one query. PostHog returns 50,000 at most, and allows 120 queries an hour."""
CHUNK_EVENTS = 500
"""Limit of events that ingest stores in one transaction."""
CHUNK_SHARE = 0.5
"""Share of NATS' largest message that the JSON of a chunk may take."""
POLL_SECONDS = 2.0
"""How often a replica checks for a backfill that another replica has started."""
RATE_LIMIT_SECONDS = 60.0
"""Pause after a 429 without `Retry-After`."""
FAILURE_SECONDS = 10.0
"""Pause after PostHog failed."""
NO_EVENTS = PastStored(stored=0, known=0, rejected=0)

EVENTS = Counter("hogsend_backfilled_events", "Events that backfills read, by outcome", ["outcome"])


class BackfillRunner:
    """Runs the running backfill, page by page, in one replica at a time."""

    def __init__(self, store: BackfillStore, posthog: PostHogEvents, link: Connection) -> None:
        """Read events from `posthog`, and send them to ingest over `link`."""
        self._store = store
        self._posthog = posthog
        self._link = link
        self._page_events = PAGE_EVENTS
        self._adapted_to: UUID | None = None
        """The backfill that the page size and the span are adapted to."""
        self._span: Span | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Check for a backfill at once."""
        self._woken.set()

    async def run(self) -> Never:
        """Run until cancelled."""
        while True:
            try:
                await self._work()
            except Busy as error:
                log.debug("another replica runs the backfill", reason=str(error))
            except Unavailable as error:
                # PostgreSQL or ingest is down, which the health document reports.
                metrics.FAILURES.labels("backfill", error.code).inc()
                log.debug("the backfill waits", reason=str(error))
            except HogsendError as error:
                metrics.FAILURES.labels("backfill", error.code).inc()
                log.warning("the backfill waits", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
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
        if job.id != self._adapted_to or self._span is None:
            self._adapted_to, self._page_events = job.id, PAGE_EVENTS
            self._span = Span(job, PAGE_EVENTS)
        try:
            await self._read_page(job, self._span)
        except Refused as error:
            refusal = error.refusal
            metrics.FAILURES.labels("backfill", refusal.code).inc()
            log.warning("the backfill failed", code=refusal.code, detail=refusal.detail)
            await self._store.end(job.id, "failed", refusal.detail, refusal.remediation)
        except PostHogError as error:
            await self._pause(job, error)

    async def _read_page(self, job: Job, span: Span) -> None:
        limit = self._page_events
        queried = span.next_range(job)
        try:
            page = await self._posthog.query(
                lambda queries: queries.page(queried, limit), job.project
            )
        except PostHogResponseTooLarge:
            if limit > 1:
                raise
            await self._skip_next(job, queried)
            return
        span.adapt(queried, page, limit)
        self._page_events = min(PAGE_EVENTS, limit * 2)
        # The next attempt reads a longer page, in which a readable event may follow.
        if page.unreadable and not page.events:
            raise PostHogError("no row in PostHog's response is an event")
        if (received := await self._store.set_received_at(job)) is None:
            return
        job = received
        for chunk in self._chunks(page.events):
            result = await self._record(job, chunk)
            last = chunk[-1].timestamp, chunk[-1].uuid
            if not await self._store.advance(job, last, len(chunk), result):
                return
            job = msgspec.structs.replace(job, position_at=last[0], position_uuid=last[1])
        if page.unreadable:
            log.warning("rows in PostHog's response are not events", rows=page.unreadable)
            EVENTS.labels("unreadable").inc(page.unreadable)
        if page.events:
            return
        if queried.until < job.until:
            await self._store.advance(job, (queried.until, ""), 0, NO_EVENTS)
            return
        await self._store.end(job.id, "finished")
        log.info("the backfill is finished", id=str(job.id))

    async def _skip_next(self, job: Job, queried: EventRange) -> None:
        """Advance past the next event, which is too large to be read, and count it as rejected."""
        position = await self._posthog.query(
            lambda queries: queries.next_position(queried), job.project
        )
        if position is None:
            return
        timestamp, uuid = position
        log.warning("an event is too large to be read from PostHog", id=uuid, timestamp=timestamp)
        EVENTS.labels("rejected").inc()
        reason = (
            f"The event {uuid} of {timestamp.isoformat()} is too large to be read from PostHog."
        )
        rejected = PastStored(stored=0, known=0, rejected=1)
        await self._store.advance(job, position, 1, rejected, left_out=reason)

    async def _pause(self, job: Job, error: PostHogError) -> None:
        metrics.FAILURES.labels("backfill", str(error.status or "no_answer")).inc()
        if error.status == 429:  # noqa: PLR2004
            seconds = RATE_LIMIT_SECONDS if error.retry_after is None else error.retry_after
            remedy = None
        else:
            is_heavy = is_too_heavy(error)
            if is_heavy or isinstance(error, PostHogResponseTooLarge):
                self._page_events = max(1, self._page_events // 2)
            if is_heavy and self._span is not None:
                self._span.shorten()
            seconds = FAILURE_SECONDS if error.retry_after is None else error.retry_after
            remedy = "It continues by itself once PostHog works again."
        log.warning("the backfill waits for PostHog", seconds=seconds, reason=str(error))
        await self._store.wait(job, seconds, describe(error), remedy)

    async def _record(self, job: Job, events: Sequence[PastEvent]) -> PastStored:
        request = StorePast(
            events=list(events),
            received_at=job.received_at or job.started_at,
            announce=job.announce,
        )
        try:
            result = await self._link.request(INGEST_STORE_PAST, request)
        except TooLarge:
            # A single event: `_chunks` limits the size of chunks with several events.
            log.warning("a past event is larger than NATS takes", id=events[0].uuid)
            result = PastStored(stored=0, known=0, rejected=len(events))
        EVENTS.labels("stored").inc(result.stored)
        EVENTS.labels("known").inc(result.known)
        EVENTS.labels("rejected").inc(result.rejected)
        return result

    def _chunks(self, events: Sequence[PastEvent]) -> Iterator[Sequence[PastEvent]]:
        max_bytes = self._link.max_payload * CHUNK_SHARE
        chunk: list[PastEvent] = []
        size = 0
        for event in events:
            length = len(msgspec.json.encode(event))
            if chunk and (len(chunk) == CHUNK_EVENTS or size + length > max_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(event)
            size += length
        if chunk:
            yield chunk
