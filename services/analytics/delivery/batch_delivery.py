"""One attempt to send a batch: then each event is settled or scheduled for its next attempt."""

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

POSTPONE_SECONDS = 5.0
"""Delay before the next attempt after a failure that is not PostHog's."""
DELETED_CHECK_SECONDS = 20.0
"""Before an event is sent, it is looked up in its stream, unless that was done more recently. If it
was deleted there, as by an erasure, it is not sent."""
DEAD_LETTER_CHECK_SECONDS = 1.0
"""Like `DELETED_CHECK_SECONDS`, before an event becomes a dead letter. An attempt may take minutes,
and an erasure deletes dead letters for the last time one minute after it started."""

QueuedEvent: TypeAlias = Entry[DeliveryMessage]


class BatchSender(Protocol):
    """Sends batches of events to a project."""

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        """Send events in their order, and return the HTTP status.

        Raises:
            CaptureError: the events were not accepted, or it is not known whether they were.
        """


class BatchDelivery:
    """Delivers the batches of one source.

    After `deliver`, each event of the batch is settled and removed from the queue, or waits in the
    queue for its next attempt.
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
        self._project_error: str | None = None
        """Why the project could not be determined for the latest batch; logged when it changes."""

    async def deliver(self, batch: Sequence[QueuedEvent]) -> None:
        """Send a batch to the source's project, with the current configuration of both."""
        try:
            await self._source.refresh()
            batch = await self._read_again(await self._drop_deleted(batch, DELETED_CHECK_SECONDS))
            project = await self._source.project()
        except HogsendError as error:
            FAILURES.labels("delivery", error.code).inc()
            self._warn_project_unknown(str(error))
            _postpone(batch)
        except Unprocessable as error:
            for entry in batch:
                entry.attempts = max(entry.attempts, 1)
            await self._publish_dead_letters(batch, error)
        else:
            self._project_error = None
            if project is None:
                await self._settle(batch, "discarded")
            elif batch:
                await self._send(batch, project)

    def _warn_project_unknown(self, reason: str) -> None:
        # Not for every batch: they retry every few seconds while PostHog is being provisioned.
        if reason != self._project_error:
            self._project_error = reason
            log.warning(
                "events wait: the project to send to is not known",
                source=self._source.name,
                reason=reason,
            )

    async def _drop_deleted(
        self, batch: Sequence[QueuedEvent], seconds: float
    ) -> Sequence[QueuedEvent]:
        """Discard the events that were deleted from their stream, and return the others.

        Args:
            batch: the events.
            seconds: only events that were last checked at least this long ago are looked up.
        """
        now = _now()
        unchecked = [entry for entry in batch if now - entry.checked_at >= seconds]
        if not unchecked:
            return batch
        try:
            deleted = await self._consumer.find_deleted([entry.place for entry in unchecked])
        except HogsendError as error:
            FAILURES.labels("delivery_look", error.code).inc()
            log.debug("events are sent without a check for deletion", reason=str(error))
            return batch
        for entry in unchecked:
            entry.checked_at = now
        if discarded := [entry for entry in unchecked if entry.place in deleted]:
            log.info("deleted events are not sent", source=self._source.name, events=len(discarded))
            await self._settle(discarded, "discarded")
        return [entry for entry in batch if entry.place not in deleted]

    async def _read_again(self, batch: Sequence[QueuedEvent]) -> list[QueuedEvent]:
        """Map again the events that were mapped with an earlier revision of the source.

        Events that the source no longer sends are discarded; the others are returned.
        """
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
        # PostHog has the events. If a stop interrupted their acknowledgement, they would be sent
        # again.
        await shielded(self._settle(batch, "delivered", response_status=status))
        if self._health is not None:
            await self._health.record_success(self._source.subscription.durable)

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
        if error.is_retryable and error.retry_after:
            self._gate.pause(_now() + min(error.retry_after, self._policy.max_delay))
        abandoned = plan_retry(batch, error, self._policy, _now())
        if self._health is not None and not error.is_about_content:
            attempt = _failed_attempt(batch, abandoned, error)
            await self._health.record_failure(self._source.subscription.durable, attempt)
        RETRIES.labels(self._source.name, self._source.destination_id).inc(
            len(batch) - len(abandoned)
        )
        if not abandoned:
            return
        reason, detail = "refused", f"{error} at {project.host}/batch/"
        if error.is_retryable:
            reason, detail = "exhausted", f"Exhausted {abandoned[0].attempts}: {detail}"
        await self._publish_dead_letters(
            abandoned, Unprocessable(reason, detail), response_status=error.status
        )

    async def _publish_dead_letters(
        self,
        entries: Sequence[QueuedEvent],
        why: Unprocessable,
        *,
        response_status: int | None = None,
    ) -> None:
        """Publish events as dead letters and settle them; postpone those that fail to publish."""
        entries = await self._drop_deleted(entries, DEAD_LETTER_CHECK_SECONDS)
        published = 0
        for entry in entries:
            if not await self._settlement.publish_dead_letter(
                entry.origin, why, attempts=entry.attempts
            ):
                break
            published += 1
        _postpone(entries[published:])
        await self._settle(
            entries[:published], "failed", response_status=response_status, error=str(why)
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
        # Only after `settle`, which may wait for PostgreSQL before it marks a message as settled:
        # a redelivery meanwhile must find the event queued, or it would be sent twice.
        self._queue.remove(entries)


def _failed_attempt(
    batch: Sequence[QueuedEvent], abandoned: Sequence[QueuedEvent], error: CaptureError
) -> Attempt:
    next_due = min((entry.due_at for entry in batch if entry not in abandoned), default=None)
    return Attempt(
        attempts=max(entry.attempts for entry in batch),
        response_status=error.status,
        error=str(error),
        next_seconds=None if next_due is None else max(0.0, next_due - _now()),
    )


def _postpone(entries: Sequence[QueuedEvent]) -> None:
    for entry in entries:
        entry.due_at = _now() + POSTPONE_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()
