"""Sends one source's events to PostHog: in batches, each person's in order, at least once.

An event stays unacknowledged in its stream until PostHog has accepted it or it is a dead letter. So
a crash loses no event. An event that is sent twice has the same uuid, by which PostHog deduplicates
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from hogsend.service.retry import retry_until_available
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.batch_delivery import BatchDelivery, BatchSender
from services.analytics.delivery.failing import Health
from services.analytics.delivery.intake import Intake
from services.analytics.delivery.metrics import LAG, LAG_SECONDS, WAITING, remove_series
from services.analytics.delivery.ordered_queue import OrderedQueue
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.send_gate import SendGate
from services.analytics.delivery.settlement import Settlement
from services.analytics.delivery.shielded import shielded
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.streams import (
    ACK_WAIT_SECONDS,
    MAX_UNACKNOWLEDGED,
    Consumer,
    DeliveryMessage,
)

MAX_BATCH = 500
"""Limit of events in one request."""
CONCURRENT_REQUESTS = 2
"""Concurrent requests of one source."""
MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""Size of one source's queue above which no more messages are pulled.

The last pull may exceed it by `hogsend.transport.pull.BATCH_BYTES`.
"""
CONSUMER_RETRY_SECONDS = 1.0


class Sender:
    """Sends the messages of one consumer."""

    def __init__(
        self,
        source: Source,
        consumer: Consumer,
        capture: BatchSender,
        policy: RetryPolicy,
        health: Health | None = None,
    ) -> None:
        self._measured = (source.name, source.destination_id)
        self._consumer = consumer
        self._queue: OrderedQueue[DeliveryMessage] = OrderedQueue()
        self._gate = SendGate()
        settlement = Settlement(source)
        self._intake = Intake(source, self._queue, self._gate, settlement)
        self._delivery = BatchDelivery(
            source,
            self._queue,
            self._gate,
            settlement,
            consumer=consumer,
            capture=capture,
            policy=policy,
            health=health,
        )
        self._work = asyncio.Event()
        self._capacity = asyncio.Event()
        """Set when the queue may have shrunk."""

    async def run(self) -> None:
        """Send until cancelled. The consumer then naks the messages that were not handled."""
        consuming: list[asyncio.Task[None]] = []
        sending: list[asyncio.Task[None]] = []
        try:
            await self._hold_for_previous_leader()
            consuming.append(asyncio.create_task(self._consumer.run()))
            sending += [asyncio.create_task(self._send()) for _ in range(CONCURRENT_REQUESTS)]
            # Not `gather`: on cancellation it would cancel all tasks at once, and `_finish` needs
            # an order.
            ended, _ = await asyncio.wait(
                [*consuming, *sending], return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                task.result()
        finally:
            await shielded(self._finish(consuming, sending))

    async def enqueue(self, messages: Sequence[DeliveryMessage]) -> None:
        """Queue messages of the consumer; returns once the queue has capacity for more."""
        await self._intake.enqueue(messages)
        LAG.labels(*self._measured).set(messages[-1].pending)
        self._wake_senders()
        while self._queue.bytes > MAX_QUEUED_BYTES:
            self._capacity.clear()
            await self._capacity.wait()

    def can_pull_more_after(self, messages: Sequence[DeliveryMessage]) -> bool:
        """Whether more messages can be pulled after these even if PostHog accepts no events."""
        count = len(self._queue) + len(messages)
        size = self._queue.bytes + sum(len(message.body) for message in messages)
        return count <= MAX_UNACKNOWLEDGED // 2 and size <= MAX_QUEUED_BYTES // 2

    def measure_lag(self, now: datetime) -> None:
        """Set the lag metric to the age of the oldest queued event; the stream has newer ones."""
        oldest = min((entry.origin.queued_at for entry in self._queue), default=now)
        LAG_SECONDS.labels(*self._measured).set(max(0.0, (now - oldest).total_seconds()))

    async def _hold_for_previous_leader(self) -> None:
        """Hold sending until the previous leader's unacknowledged messages are redelivered."""
        unacknowledged, _ = await retry_until_available(
            self._consumer.create, wait_max=CONSUMER_RETRY_SECONDS
        )
        # JetStream redelivers them a moment after the ack wait.
        self._gate.hold_for_redeliveries(unacknowledged, _now() + ACK_WAIT_SECONDS + 1)

    async def _send(self) -> None:
        while True:
            self._work.clear()
            closed_for = self._gate.closed_for(_now())
            batch = self._queue.take(_now(), MAX_BATCH) if closed_for is None else []
            if not batch:
                await self._wait_for_work(closed_for or self._queue.next_due(_now()))
                continue
            try:
                await self._delivery.deliver(batch)
            finally:
                self._queue.release(batch)
                self._wake_senders()

    async def _wait_for_work(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            return

    def _wake_senders(self) -> None:
        WAITING.labels(*self._measured).set(len(self._queue))
        self._work.set()
        self._capacity.set()

    async def _finish(
        self, consuming: Sequence[asyncio.Task[None]], sending: Sequence[asyncio.Task[None]]
    ) -> None:
        # Sending ends first: a nak of a message whose event PostHog just accepted would have it
        # sent again.
        await cancel_all(*sending)
        await cancel_all(*consuming)
        remove_series(*self._measured)


def _now() -> float:
    return asyncio.get_running_loop().time()
