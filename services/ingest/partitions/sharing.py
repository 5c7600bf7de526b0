"""Shares the partitions evenly among the replicas of ingest, also when replicas start or stop.

No replica assigns partitions. A replica with less than its share requests every partition, and
JetStream gives it the free ones. A replica with more than its share releases as many as others
request. Replicas count each other by their replies to NATS' service discovery (`$SRV.PING`).

The gateway gives a webhook the slot of its person, the last token of its subject, if there are
several partitions. Each partition consumes some of the slots.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.js import errors as js_errors

from hogsend.contract import subjects
from hogsend.contract.discovery import ping_subject
from hogsend.contract.errors import Forbidden
from hogsend.contract.partitions import (
    PARTITIONED,
    PIN_SECONDS,
    SLOTS,
    partition_consumer,
    partitions_in,
)
from hogsend.contract.streams import INGEST_CONSUMER, Limits, StreamName
from hogsend.service import metrics as shared_metrics
from hogsend.service import streams
from hogsend.service.broker import ServiceBroker
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.own_consumer import list_consumers
from hogsend.transport.pinned_consumer import OverlappingConsumer, PinnedConsumer
from hogsend.transport.pull import ConsumerGone
from services.ingest import metrics
from services.ingest.partitions.partition import Partition

log = structlog.get_logger(__name__)

MAX_CONCURRENT_BATCHES = 4
"""Batches that a replica processes at the same time, of all its partitions together."""
ATTEMPTS = 3
"""How often a message that fails is tried before the messages after it are processed without it."""
ORPHAN_ROUNDS = 5
"""Every so many rounds this replica checks for partitions without an owner, and the subjects of the
stream."""
IDLE_CHECKS = 3
"""Consumers of another number of partitions are deleted after this many checks in a row that find
no replica at them."""


class Pace(msgspec.Struct, frozen=True):
    """Intervals and timeouts, in seconds."""

    round: float = 2.0
    """Pause between two rounds of sharing."""
    replies: float = 0.5
    """How long the other replicas may take to reply."""
    idle: float = 30.0
    """Pause between two checks for webhooks with a slot, if there is only one partition."""
    pin: float = PIN_SECONDS
    """How long a replica that died still owns its partitions."""


PACE = Pace()


class Partitions:
    """The partitions of webhooks, as one replica consumes them."""

    def __init__(
        self,
        broker: ServiceBroker,
        subscriber: BatchSubscriber,
        count: int,
        *,
        pace: Pace,
        limits: Limits,
    ) -> None:
        """Prepare; `run` sends the first request.

        Args:
            broker: of this replica.
            subscriber: processes batches; it has `auto_start=False`.
            count: number of partitions.
            pace: intervals and timeouts.
            limits: the operator's limits of streams.
        """
        self._limits = limits
        self._broker = broker
        self._link = broker.link
        self._count = count
        self._pace = pace
        slots = asyncio.Semaphore(MAX_CONCURRENT_BATCHES)

        async def consume(messages: list[Msg]) -> None:
            await subscriber.process_batch(messages, attempts=ATTEMPTS)

        self._partitions = [
            Partition(
                PinnedConsumer(
                    broker.link,
                    StreamName.WEBHOOKS,
                    partition_consumer(number, count, pin_seconds=pace.pin),
                ),
                consume,
                slots,
                batch=subscriber.batch,
            )
            for number in range(count)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._rounds = 0
        self._idle_checks = 0

    @property
    def owned(self) -> list[Partition]:
        """The partitions that this replica owns."""
        return [partition for partition in self._partitions if partition.is_owned]

    async def run(self) -> None:
        """Consume until cancelled.

        Raises:
            Exception: a partition failed unexpectedly. The process should end, because no other
                replica consumes the partition while this one owns it.
        """
        await self._wait_until_running()
        if self._count == 1:
            await self._wait_for_webhooks_with_slot()
        else:
            await self._wait_for_older_webhooks()
            await self._take_over()
        self._tasks = [asyncio.create_task(partition.run()) for partition in self._partitions]
        try:
            while True:
                try:
                    await self._share()
                except (*UNREACHABLE, ConsumerGone) as error:
                    _log_failure("partitions are not shared out", error)
                metrics.PARTITIONS.set(len(self.owned))
                ended, consuming = await asyncio.wait(
                    self._tasks, timeout=self._pace.round, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in ended:
                    task.result()
                if not consuming:
                    # The connection was closed, or all tasks were cancelled.
                    return
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Release all partitions, while the connection is still open."""
        await cancel_all(*self._tasks)
        metrics.PARTITIONS.set(0)

    async def _wait_until_running(self) -> None:
        while not (self._broker.running and self._link.connected):  # noqa: ASYNC110 - no event
            await asyncio.sleep(self._pace.round / 10)

    async def _wait_for_webhooks_with_slot(self) -> None:
        """Wait until there are webhooks with a slot: they were queued with several partitions."""
        while True:
            try:
                info = await self._link.js.stream_info(StreamName.WEBHOOKS, PARTITIONED)
                if info.state.subjects:
                    log.info("webhooks were queued for several partitions; they are consumed, too")
                    return
            except UNREACHABLE as error:
                _log_failure("webhooks of other partitions cannot be checked", error)
            await asyncio.sleep(self._pace.idle)

    async def _wait_for_older_webhooks(self) -> None:
        """Wait until the webhooks that were queued without a slot before the start are settled.

        They are older than webhooks with a slot, so their events come first.
        """
        until: int | None = None
        while True:
            try:
                # Not the consumer's `num_pending`: it lacks messages that have just been stored.
                without_slot = await self._link.js.stream_info(
                    StreamName.WEBHOOKS, INGEST_CONSUMER.filter_subject
                )
                if until is None:
                    until = without_slot.state.last_seq
                name = str(INGEST_CONSUMER.durable_name)
                info = await self._link.js.consumer_info(StreamName.WEBHOOKS, name)
                settled = info.ack_floor.stream_seq if info.ack_floor else 0
                if settled >= until or not without_slot.state.subjects:
                    return
            except UNREACHABLE as error:
                _log_failure("webhooks without a partition cannot be checked", error)
            await asyncio.sleep(self._pace.round / 10)

    async def _take_over(self) -> None:
        """Create the consumers of this number of partitions, instead of those of another number.

        Nothing is lost: the stream keeps webhooks that are not settled, and the new consumers start
        with them.
        """
        while True:
            try:
                await self._delete_foreign()
                for partition in self._partitions:
                    await partition.source.ensure()
            except OverlappingConsumer:
                # A replica with the other number has created one of its consumers again.
                continue
            except UNREACHABLE as error:
                shared_metrics.FAILURES.labels("partitions", type(error).__name__).inc()
                log.warning(
                    "partitions are not created yet",
                    reason=str(error) or type(error).__name__,
                    fix=Forbidden.fix,
                )
                await asyncio.sleep(self._pace.round)
            else:
                return

    async def _foreign_consumers(self) -> list[str]:
        """Names of the consumers of another number of partitions."""
        consumers = await list_consumers(self._link.js, StreamName.WEBHOOKS)
        return [one.name for one in consumers if partitions_in(one.name) not in {None, self._count}]

    async def _delete_foreign(self) -> None:
        foreign = await self._foreign_consumers()
        for name in foreign:
            with suppress(js_errors.NotFoundError):
                await self._link.js.delete_consumer(StreamName.WEBHOOKS, name)
        if foreign:
            log.warning(
                "the number of partitions is changed",
                before=partitions_in(foreign[0]),
                now=self._count,
            )

    async def _share(self) -> None:
        """Do one round: request partitions if this replica has too few, or release some."""
        if any(partition.overlaps for partition in self._partitions):
            await self._replace_if_idle()
        replicas = max(1, await count_replicas(self._link, self._pace.replies))
        share = math.ceil(self._count / replicas)
        owned = self.owned
        is_short = len(owned) < share
        self._rounds += 1
        if not self._rounds % ORPHAN_ROUNDS:
            await self._restore_slots()
        for partition in self._partitions:
            if not partition.is_owned:
                partition.request(is_short or await self._is_orphan(partition))
        await self._release(owned, len(owned) - share)

    async def _restore_slots(self) -> None:
        """Restore the subjects with slots, which a replica of the previous version removes."""
        info = await self._link.js.stream_info(StreamName.WEBHOOKS)
        if subjects.webhook("*", SLOTS - 1) not in (info.config.subjects or []):
            await streams.reconcile(self._link.js, self._broker.user, self._limits)
            log.warning("the stream of webhooks lacked its partitions; they are restored")

    async def _release(self, owned: Sequence[Partition], too_many: int) -> None:
        for partition in owned:
            if too_many <= 0:
                return
            # More than this replica's own request: another replica waits for the partition.
            waiting = (await partition.source.info()).num_waiting
            if waiting > 1:
                partition.release()
                too_many -= 1

    async def _is_orphan(self, partition: Partition) -> bool:
        """Whether no replica owns a partition that has webhooks.

        A replica that is counted need not consume partitions, for example one of the previous
        version.
        """
        if self._rounds % ORPHAN_ROUNDS:
            return False
        state = await partition.source.info()
        return not state.is_pinned and state.num_pending > 0

    async def _replace_if_idle(self) -> None:
        """Delete the consumers of another number of partitions if no replica uses them any more."""
        waiting = 0
        for name in await self._foreign_consumers():
            info = await self._link.js.consumer_info(StreamName.WEBHOOKS, name)
            waiting += info.num_waiting or 0
        self._idle_checks = 0 if waiting else self._idle_checks + 1
        if self._idle_checks >= IDLE_CHECKS:
            self._idle_checks = 0
            await self._delete_foreign()
        elif not self._idle_checks:
            log.warning(
                "webhooks are consumed in another number of partitions by other replicas",
                fix="set INGEST_PARTITIONS to the same everywhere",
            )


async def count_replicas(link: Connection, seconds: float) -> int:
    """Count the replicas that reply within some seconds, this one included.

    Raises:
        nats.errors.Error: NATS is unavailable.
    """
    client = link.client
    inbox = client.new_inbox()
    replies: set[bytes] = set()

    async def collect(message: Msg) -> None:
        replies.add(message.data)

    subscription = await client.subscribe(inbox, cb=collect)
    try:
        await client.publish(ping_subject(link.user), b"", reply=inbox)
        await asyncio.sleep(seconds)
    finally:
        await subscription.unsubscribe()
    return len(replies)


def _log_failure(what: str, error: Exception) -> None:
    shared_metrics.FAILURES.labels("partitions", type(error).__name__).inc()
    log.debug(what, reason=str(error) or type(error).__name__)
