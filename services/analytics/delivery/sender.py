"""Sends one source's events to PostHog: in batches, each person's in order, until they are there.

Everything in hand stays unacknowledged in JetStream until PostHog has it, or it is a dead letter.
So a crash loses nothing; what is sent twice carries the same uuid, by which PostHog knows repeats.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import nats.errors
import nats.js.errors
import structlog
from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from hogsend.contract.destinations import DeliveryStatus
from hogsend.contract.errors import HogsendError
from hogsend.contract.headers import message_id
from hogsend.posthog.capture import Capture, CaptureError, encode
from hogsend.service.metrics import FAILURES
from hogsend.service.serving import stop
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from services.analytics.delivery.dead_letters import DeadLetters
from services.analytics.delivery.ordered_queue import Entry, OrderedQueue
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.sources import (
    ACK_WAIT_SECONDS,
    Skipped,
    Source,
    Unprocessable,
)
from services.analytics.destinations.store import Outcome
from services.analytics.project_key import Project

log = structlog.get_logger(__name__)

GROUP = 500
"""Events in one request at most."""
REQUESTS = 2
"""Requests to one destination at a time."""
BEAT_SECONDS = 3.0
"""How often JetStream hears that events are still worked on; well below the consumer's ack wait."""
FLUSH_SECONDS = 2
GIVEN_BACK_SECONDS = 1.0
"""What is given back at a stop comes back after this long; sooner, our own open pull gets it."""
LATER_SECONDS = 5.0
"""What could not be decided now is decided after so long."""
REMEMBERED = 10_000
"""Events that are done and may be redelivered, because their acknowledgement was lost."""
SUSPICIOUS_ATTEMPTS = 3
"""A group that failed so often is sent in halves: one event may be at fault."""

SETTLED = Counter("hogsend_delivery_events", "Events done with, by outcome", ["source", "outcome"])
WAITING = Gauge("hogsend_delivery_waiting", "Events in hand", ["source"])
LAG = Gauge("hogsend_delivery_lag", "Events that wait in the stream", ["source"])

_BUS_AWAY = (nats.errors.Error, nats.js.errors.Error, HogsendError, OSError)

MessageEntry = Entry[tuple[Msg, str, str]]
"""An entry with its message, and the id and type its history goes by."""


class Sender:
    """Runs one source."""

    def __init__(
        self,
        source: Source,
        bus: Connection,
        capture: Capture,
        dead_letters: DeadLetters,
        attempts: RetryPolicy,
    ) -> None:
        """Prepare without starting."""
        self.source = source
        self._bus = bus
        self._capture = capture
        self._dead_letters = dead_letters
        self._retry = attempts
        self._queue: OrderedQueue[tuple[Msg, str, str]] = OrderedQueue()
        self._wake = asyncio.Event()
        self._paused_until = 0.0
        self._done: deque[int] = deque(maxlen=REMEMBERED)
        self._done_set: set[int] = set()
        self._awaited = 0
        self._hold_until = 0.0

    async def run(self) -> None:
        """Send until cancelled; then give back what is in hand."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._look_at_predecessor()
            tasks = [
                asyncio.create_task(task)
                for task in (self._read(), self._beat(), *(self._send() for _ in range(REQUESTS)))
            ]
            await asyncio.gather(*tasks)
        finally:
            await _shielded(self._finish(tasks))

    async def _finish(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        await stop(*tasks)
        await self._give_back()
        WAITING.labels(self.source.name).set(0)

    async def _look_at_predecessor(self) -> None:
        """Find out how many events another sender left unfinished.

        They come again only when JetStream misses their acknowledgements. Newer events of the same
        people must not overtake them.
        """
        while True:
            try:
                info = await self._bus.js.add_consumer(self.source.stream, self.source.consumer)
            except _BUS_AWAY as error:
                FAILURES.labels("delivery", type(error).__name__).inc()
                log.debug("no consumer yet", source=self.source.name, reason=str(error))
                await asyncio.sleep(1)
            else:
                self._awaited = info.num_ack_pending or 0
                self._hold_until = _now() + ACK_WAIT_SECONDS + 1
                return

    async def _read(self) -> None:
        source = self.source
        async for messages in Consumer(
            self._bus, source.stream, source.consumer, batch=GROUP
        ).batches():
            for message in messages:
                await self._enqueue(message)
            LAG.labels(source.name).set(messages[-1].metadata.num_pending)
            WAITING.labels(source.name).set(len(self._queue))
            self._wake.set()

    async def _enqueue(self, message: Msg) -> None:
        metadata = message.metadata
        position = metadata.sequence.stream
        if metadata.num_delivered > 1:
            self._awaited -= 1
        if position in self._done_set:
            await self._ack([message])
            return
        try:
            captured = self.source.read(message)
        except Unprocessable as error:
            await self._bury(message, error.reason, str(error), 0)
            return
        except Skipped:
            await self._skip(message)
            return
        if captured is None:
            await self._ack([message])
            self._remember(position)
            return
        entry = Entry(position, captured.distinct_id, encode(captured), _origin(message))
        self._queue.add(entry)

    async def _skip(self, message: Msg) -> None:
        _, id, type = _origin(message)
        await self._ack([message])
        self._remember(message.metadata.sequence.stream)
        SETTLED.labels(self.source.name, "skipped").inc()
        await self.source.record(
            [Outcome(event_id=id, event_type=type, status="skipped", attempts=1)]
        )

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            pause = self._pause()
            group = self._queue.take(_now(), GROUP) if pause is None else []
            if not group:
                await self._wait_for_work(pause or self._queue.next_due(_now()))
                continue
            try:
                await self._deliver(group)
            finally:
                self._queue.release(group)
                WAITING.labels(self.source.name).set(len(self._queue))
                self._wake.set()

    def _pause(self) -> float | None:
        now = _now()
        until = self._paused_until
        if self._awaited > 0:
            until = max(until, self._hold_until)
        return until - now if until > now else None

    async def _wait_for_work(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _deliver(self, group: Sequence[MessageEntry]) -> None:
        try:
            project = await self.source.project()
        except HogsendError as error:
            FAILURES.labels("delivery", error.code).inc()
            log.warning("the project is not known now", source=self.source.name, reason=str(error))
            self._try_later(group, LATER_SECONDS)
            return
        except Unprocessable as error:
            await self._set_aside(group, error.reason, str(error), attempts=1)
            return
        if project is None:
            await self._settle(group, "discarded")
            return
        try:
            status = await self._capture.send(
                project.host, project.key, [entry.body for entry in group]
            )
        except CaptureError as error:
            await self._failed(group, project, error)
        else:
            for entry in group:
                entry.attempts += 1
            await self._settle(group, "delivered", response_status=status)

    async def _failed(
        self, group: Sequence[MessageEntry], project: Project, error: CaptureError
    ) -> None:
        log.warning(
            "PostHog did not take events",
            source=self.source.name,
            events=len(group),
            reason=str(error),
            host=project.host,
        )
        half = max(1, len(group) // 2)
        if not error.may_pass:
            if error.is_about_content and len(group) > 1:
                for entry in group:
                    entry.max_batch = half
                return
            detail = f"{error} at {project.host}/batch/"
            await self._set_aside(group, "refused", detail, error.status, attempts=1)
            return
        now, jitter = _now(), random.random()  # noqa: S311 - spreads load, hides nothing
        if error.retry_after:
            self._paused_until = now + min(error.retry_after, self._retry.max_delay)
        exhausted = []
        for entry in group:
            entry.attempts += 1
            entry.first_tried_at = entry.first_tried_at or now
            delay = self._retry.delay_after(
                entry.attempts,
                now - entry.first_tried_at,
                error.retry_after,
                # One for all, so that the group stays together.
                lambda: jitter,
            )
            if delay is None:
                exhausted.append(entry)
                continue
            entry.due_at = now + delay
            if entry.attempts >= SUSPICIOUS_ATTEMPTS:
                entry.max_batch = half
        if exhausted:
            detail = f"Exhausted {exhausted[0].attempts}: {error} at {project.host}/batch/"
            await self._set_aside(exhausted, "exhausted", detail, error.status)

    async def _set_aside(
        self,
        group: Sequence[MessageEntry],
        reason: str,
        detail: str,
        status: int | None = None,
        attempts: int | None = None,
    ) -> None:
        buried = []
        for entry in group:
            if attempts is not None:
                entry.attempts = max(entry.attempts, attempts)
            if await self._bury(entry.origin[0], reason, detail, entry.attempts):
                buried.append(entry)
            else:
                self._try_later([entry], LATER_SECONDS)
        await self._settle(buried, "failed", response_status=status, error=detail)

    async def _bury(self, message: Msg, reason: str, detail: str, attempts: int) -> bool:
        source = self.source
        try:
            await self._dead_letters.bury(
                message,
                source=source.name,
                consumer=source.durable,
                marks=source.marks,
                reason=reason,
                detail=detail,
                attempts=attempts,
            )
        except _BUS_AWAY as error:
            # The message stays unacknowledged, and so comes back.
            FAILURES.labels("delivery_dead_letter", type(error).__name__).inc()
            log.warning("dead letter not kept", source=source.name, reason=str(error))
            return False
        await self._ack([message])
        return True

    async def _settle(
        self,
        group: Sequence[MessageEntry],
        status: DeliveryStatus,
        *,
        response_status: int | None = None,
        error: str | None = None,
    ) -> None:
        if not group:
            return
        self._queue.remove(group)
        for entry in group:
            self._remember(entry.position)
        SETTLED.labels(self.source.name, status).inc(len(group))
        await self._ack([entry.origin[0] for entry in group])
        await self.source.record(
            [
                Outcome(
                    event_id=entry.origin[1],
                    event_type=entry.origin[2],
                    status=status,
                    attempts=entry.attempts,
                    response_status=response_status,
                    error=error,
                )
                for entry in group
            ]
        )

    async def _ack(self, messages: Sequence[Msg]) -> None:
        try:
            for message in messages:
                if not message.is_acked:
                    await message.ack()
        except (nats.errors.Error, OSError) as error:
            # They come back, and are known by then.
            FAILURES.labels("delivery_ack", type(error).__name__).inc()
            log.warning("not acknowledged", source=self.source.name, events=len(messages))

    def _try_later(self, group: Sequence[MessageEntry], seconds: float) -> None:
        for entry in group:
            entry.due_at = _now() + seconds

    def _remember(self, position: int) -> None:
        if len(self._done) == REMEMBERED:
            self._done_set.discard(self._done[0])
        self._done.append(position)
        self._done_set.add(position)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                for entry in list(self._queue):
                    if not entry.origin[0].is_acked:
                        await entry.origin[0].in_progress()
            except (nats.errors.Error, OSError) as error:
                # JetStream may redeliver then, which renews the message of the entry.
                FAILURES.labels("in_progress", type(error).__name__).inc()
                log.warning("could not tell JetStream that events are in progress")

    async def _give_back(self) -> None:
        if not len(self._queue):
            return
        try:
            for entry in self._queue:
                if not entry.origin[0].is_acked:
                    await entry.origin[0].nak(GIVEN_BACK_SECONDS)
            await self._bus.flush(FLUSH_SECONDS)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            FAILURES.labels("give_back", type(error).__name__).inc()
            log.warning("could not give events back, they come back later", reason=str(error))


def _origin(message: Msg) -> tuple[Msg, str, str]:
    id = message_id(message.headers or {})
    return message, id or str(message.metadata.sequence.stream), message.subject.split(".", 2)[2]


async def _shielded(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` even when cancelled again: a stop is asked for more than once."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    task.result()


def _now() -> float:
    return asyncio.get_running_loop().time()
