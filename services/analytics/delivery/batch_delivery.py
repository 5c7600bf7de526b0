"""One attempt to send a batch, and what follows from its result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import structlog

from hogsend.contract.destinations import DeliveryStatus
from hogsend.contract.errors import HogsendError
from hogsend.posthog.capture import CaptureError, encode
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.failed_batch import plan_retry
from services.analytics.delivery.failing import Attempt, Health
from services.analytics.delivery.metrics import RETRIES
from services.analytics.delivery.ordered_queue import Entry, OrderedQueue
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.send_gate import SendGate
from services.analytics.delivery.settlement import Settlement, outcome_of
from services.analytics.delivery.shielded import shielded
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.delivery.streams import Consumer, DeliveryMessage
from services.analytics.project_key import Project

log = structlog.get_logger(__name__)

LATER_SECONDS = 5.0
"""Pause after a failure that is not PostHog's."""
LOOK_SECONDS = 20.0
"""How long an event may wait before it is looked for in its stream, and not sent if that has it no
more."""
LETTER_SECONDS = 1.0
"""The same for one that is about to become a dead letter: an attempt may take minutes, and an
erasure looks for dead letters once more after a minute, and then no more."""

QueuedEvent: TypeAlias = Entry[DeliveryMessage]


class BatchSender(Protocol):
    """Sends batches of events to a project."""

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        """Send events in their order; gives the HTTP status.

        Raises:
            CaptureError: they were not taken, or that is not known.
        """


class BatchDelivery:
    """Delivers the batches of one source.

    Afterwards an event is settled and no longer queued, or it waits in the queue for its next
    attempt.
    """

    def __init__(
        self,
        source: Source,
        queue: OrderedQueue[DeliveryMessage],
        gate: SendGate,
        settlement: Settlement,
        *,
        consumer: Consumer,
        capture: BatchSender,
        policy: RetryPolicy,
        health: Health | None = None,
    ) -> None:
        self._source = source
        self._queue = queue
        self._gate = gate
        self._settlement = settlement
        self._consumer = consumer
        self._capture = capture
        self._policy = policy
        self._health = health
        self._not_known: str | None = None
        """Why the project was not known when it was last asked for."""

    async def deliver(self, batch: Sequence[QueuedEvent]) -> None:
        """Send a batch to the source's project, both as an operator has them now."""
        try:
            await self._source.refresh()
            batch = await self._read_again(await self._kept(batch, LOOK_SECONDS))
            project = await self._source.project()
        except HogsendError as error:
            FAILURES.labels("delivery", error.code).inc()
            self._say_not_known(str(error))
            _postpone(batch)
        except Unprocessable as error:
            for entry in batch:
                entry.attempts = max(entry.attempts, 1)
            await self._set_aside(batch, error)
        else:
            self._not_known = None
            if project is None:
                await self._settle(batch, "discarded")
            elif batch:
                await self._send(batch, project)

    def _say_not_known(self, reason: str) -> None:
        # Once: each batch asks again every few seconds, for as long as provisioning may take.
        if reason != self._not_known:
            self._not_known = reason
            log.warning(
                "events wait: the project to send to is not known",
                source=self._source.name,
                reason=reason,
            )

    async def _kept(self, batch: Sequence[QueuedEvent], seconds: float) -> Sequence[QueuedEvent]:
        """Settle what was deleted from its stream while it waited so long; gives the rest."""
        now = _now()
        waited = [entry for entry in batch if now - entry.looked_at >= seconds]
        if not waited:
            return batch
        try:
            deleted = await self._consumer.deleted([entry.place for entry in waited])
        except HogsendError as error:
            FAILURES.labels("delivery_look", error.code).inc()
            log.debug("what waited is taken for still there", reason=str(error))
            return batch
        for entry in waited:
            entry.looked_at = now
        if gone := [entry for entry in waited if entry.place in deleted]:
            log.info("deleted events are not sent", source=self._source.name, events=len(gone))
            await self._settle(gone, "discarded")
        return [entry for entry in batch if entry.place not in deleted]

    async def _read_again(self, batch: Sequence[QueuedEvent]) -> list[QueuedEvent]:
        """Read anew what was read before a change; settles what is not to be sent any more."""
        revision, current = self._source.revision, []
        for entry in batch:
            if entry.revision != revision:
                try:
                    captured = self._source.read(entry.origin)
                except (Skipped, Unprocessable):
                    captured = None
                if captured is None:
                    await self._settle([entry], "discarded")
                    continue
                self._queue.rewrite(entry, encode(captured), revision)
            current.append(entry)
        return current

    async def _send(self, batch: Sequence[QueuedEvent], project: Project) -> None:
        bodies = [entry.body for entry in batch]
        try:
            status = await self._capture.send(project.host, project.key, bodies)
        except CaptureError as error:
            await self._handle_failure(batch, project, error)
            return
        for entry in batch:
            entry.attempts += 1
        # PostHog has them: left unacknowledged by a stop, they would be sent again.
        await shielded(self._settle(batch, "delivered", response_status=status))
        if self._health is not None:
            await self._health.worked(self._source.subscription.durable)

    async def _handle_failure(
        self, batch: Sequence[QueuedEvent], project: Project, error: CaptureError
    ) -> None:
        log.warning(
            "PostHog did not accept events",
            source=self._source.name,
            events=len(batch),
            reason=str(error),
            host=project.host,
        )
        if error.may_pass and error.retry_after:
            self._gate.pause(_now() + min(error.retry_after, self._policy.max_delay))
        given_up = plan_retry(batch, error, self._policy, _now())
        if self._health is not None and not error.is_about_content:
            attempt = _described(batch, given_up, error)
            await self._health.failed(self._source.subscription.durable, attempt)
        RETRIES.labels(self._source.name, self._source.destination_id).inc(
            len(batch) - len(given_up)
        )
        if not given_up:
            return
        reason, detail = "refused", f"{error} at {project.host}/batch/"
        if error.may_pass:
            reason, detail = "exhausted", f"Exhausted {given_up[0].attempts}: {detail}"
        await self._set_aside(given_up, Unprocessable(reason, detail), response_status=error.status)

    async def _set_aside(
        self,
        entries: Sequence[QueuedEvent],
        why: Unprocessable,
        *,
        response_status: int | None = None,
    ) -> None:
        """Settle the events that could be kept as dead letters; the others wait."""
        entries = await self._kept(entries, LETTER_SECONDS)
        kept = 0
        for entry in entries:
            if not await self._settlement.set_aside(entry.origin, why, attempts=entry.attempts):
                break
            kept += 1
        _postpone(entries[kept:])
        await self._settle(
            entries[:kept], "failed", response_status=response_status, error=str(why)
        )

    async def _settle(
        self,
        entries: Sequence[QueuedEvent],
        status: DeliveryStatus,
        *,
        response_status: int | None = None,
        error: str | None = None,
    ) -> None:
        outcomes = (
            outcome_of(
                entry.origin,
                status,
                attempts=entry.attempts,
                response_status=response_status,
                error=error,
            )
            for entry in entries
        )
        await self._settlement.settle([entry.origin for entry in entries], status, outcomes)
        # Not before: a message needs its heartbeat until it is acknowledged.
        self._queue.remove(entries)


def _described(
    batch: Sequence[QueuedEvent], given_up: Sequence[QueuedEvent], error: CaptureError
) -> Attempt:
    due = min((entry.due_at for entry in batch if entry not in given_up), default=None)
    return Attempt(
        attempts=max(entry.attempts for entry in batch),
        response_status=error.status,
        error=str(error),
        next_seconds=None if due is None else max(0.0, due - _now()),
    )


def _postpone(entries: Sequence[QueuedEvent]) -> None:
    for entry in entries:
        entry.due_at = _now() + LATER_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()
