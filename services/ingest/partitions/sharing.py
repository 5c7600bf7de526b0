"""Shares the partitions evenly among the replicas of ingest, also when some come or go.

No replica assigns partitions. One that has less than its share asks for every partition, and
JetStream gives it those that are free. One that has more than its share lets go of as many as
others ask for. How many replicas there are they know from each other's answers to NATS' own
discovery.
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

AT_ONCE = 4
"""Batches a replica processes at a time, of all its partitions together."""
ATTEMPTS = 3
"""How often a message at fault is tried before those behind it go on without it."""
ORPHAN_ROUNDS = 5
"""Rounds between two looks for partitions that no replica asks for, and at the queue's subjects."""
IDLE_LOOKS = 3
"""Looks in a row that find no reader at another number's partitions before they are taken over."""


class Pace(msgspec.Struct, frozen=True):
    """How long things take, in seconds."""

    round: float = 2.0
    """Between two looks at who has what."""
    answers: float = 0.5
    """How long the others may take to say that they are there."""
    left_over: float = 30.0
    """Between two looks for webhooks with a slot where there is one partition only."""
    pin: float = PIN_SECONDS
    """How long a replica that died still has its partitions."""


PACE = Pace()


class Partitions:
    """A replica's part in all of them."""

    def __init__(
        self,
        broker: ServiceBroker,
        subscriber: BatchSubscriber,
        count: int,
        *,
        pace: Pace,
        limits: Limits,
    ) -> None:
        """Prepare without asking.

        Args:
            broker: of this replica.
            subscriber: processes batches; it has `auto_start=False`.
            count: how many partitions there are.
            pace: how long things take.
            limits: what the operator says about streams.
        """
        self._limits = limits
        self._broker = broker
        self._link = broker.link
        self._count = count
        self._pace = pace
        turns = asyncio.Semaphore(AT_ONCE)

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
                turns,
                batch=subscriber.batch,
            )
            for number in range(count)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._rounds = 0
        self._idle_looks = 0

    @property
    def held(self) -> list[Partition]:
        """The partitions this replica consumes."""
        return [partition for partition in self._partitions if partition.held]

    async def run(self) -> None:
        """Consume until cancelled.

        Raises:
            Exception: one partition failed as none may; no other replica would consume it as long
                as this one has its pin.
        """
        await self._running()
        if self._count == 1:
            await self._left_over()
        else:
            await self._settled_without_slots()
            await self._take_over()
        self._tasks = [asyncio.create_task(partition.run()) for partition in self._partitions]
        try:
            while True:
                try:
                    await self._share()
                except (*UNREACHABLE, ConsumerGone) as error:
                    _not_now("partitions are not shared out", error)
                metrics.PARTITIONS.set(len(self.held))
                ended, consuming = await asyncio.wait(
                    self._tasks, timeout=self._pace.round, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in ended:
                    task.result()
                if not consuming:
                    # The connection was closed, or everything was let go of.
                    return
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Let go of everything, while JetStream can still be told so."""
        await cancel_all(*self._tasks)
        metrics.PARTITIONS.set(0)

    async def _running(self) -> None:
        while not (self._broker.running and self._link.connected):  # noqa: ASYNC110 - no event
            await asyncio.sleep(self._pace.round / 10)

    async def _left_over(self) -> None:
        """Wait until there are webhooks with a slot: of a time with more partitions."""
        while True:
            try:
                found = await self._link.js.stream_info(StreamName.WEBHOOKS, PARTITIONED)
                if found.state.subjects:
                    log.info("webhooks were queued for several partitions; they are consumed, too")
                    return
            except UNREACHABLE as error:
                _not_now("webhooks of other partitions are not looked for", error)
            await asyncio.sleep(self._pace.left_over)

    async def _settled_without_slots(self) -> None:
        """Wait until what was queued without a slot up to now is settled: it comes before."""
        until: int | None = None
        while True:
            try:
                # Not the consumer's `num_pending`: that lacks what the stream took a moment ago.
                left = await self._link.js.stream_info(
                    StreamName.WEBHOOKS, INGEST_CONSUMER.filter_subject
                )
                if until is None:
                    until = left.state.last_seq
                name = str(INGEST_CONSUMER.durable_name)
                info = await self._link.js.consumer_info(StreamName.WEBHOOKS, name)
                settled = info.ack_floor.stream_seq if info.ack_floor else 0
                if settled >= until or not left.state.subjects:
                    return
            except UNREACHABLE as error:
                _not_now("webhooks without a partition are not looked at", error)
            await asyncio.sleep(self._pace.round / 10)

    async def _take_over(self) -> None:
        """Make this number of partitions, in the place of another one.

        Nothing is lost: the queue keeps what is not settled, and the new consumers begin with it.
        """
        while True:
            try:
                await self._delete_others()
                for partition in self._partitions:
                    await partition.source.ensure()
            except OverlappingConsumer:
                # A replica with the other number has made one of its own again.
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

    async def _others(self) -> list[str]:
        """Names of the consumers of another number of partitions."""
        found = await list_consumers(self._link.js, StreamName.WEBHOOKS)
        return [one.name for one in found if partitions_in(one.name) not in {None, self._count}]

    async def _delete_others(self) -> None:
        others = await self._others()
        for name in others:
            with suppress(js_errors.NotFoundError):
                await self._link.js.delete_consumer(StreamName.WEBHOOKS, name)
        if others:
            log.warning(
                "the number of partitions is changed",
                before=partitions_in(others[0]),
                now=self._count,
            )

    async def _share(self) -> None:
        """Look once at who has what; ask for more, or let go of some."""
        if any(partition.overlaps for partition in self._partitions):
            await self._replace_if_idle()
        replicas = max(1, await count_replicas(self._link, self._pace.answers))
        share = math.ceil(self._count / replicas)
        held = self.held
        is_short = len(held) < share
        self._rounds += 1
        if not self._rounds % ORPHAN_ROUNDS:
            await self._keep_slots()
        for partition in self._partitions:
            if not partition.held:
                partition.want(is_short or await self._is_orphan(partition))
        await self._let_go(held, len(held) - share)

    async def _keep_slots(self) -> None:
        """Have the queue take slots again: a replica of the version before knows none."""
        info = await self._link.js.stream_info(StreamName.WEBHOOKS)
        if subjects.webhook("*", SLOTS - 1) not in (info.config.subjects or []):
            await streams.reconcile(self._link.js, self._broker.user, self._limits)
            log.warning("the stream of webhooks lacked its partitions; they are restored")

    async def _let_go(self, held: Sequence[Partition], too_many: int) -> None:
        for partition in held:
            if too_many <= 0:
                return
            # Only the others wait for what this replica has.
            waiting = (await partition.source.info()).num_waiting
            if waiting > 1:
                partition.let_go()
                too_many -= 1

    async def _is_orphan(self, partition: Partition) -> bool:
        """Whether no replica consumes it, though there is something to consume.

        A replica that is counted may consume none, for example one of the version before.
        """
        if self._rounds % ORPHAN_ROUNDS:
            return False
        state = await partition.source.info()
        return not state.is_pinned and state.num_pending > 0

    async def _replace_if_idle(self) -> None:
        """Take over from another number of partitions whose replicas are all gone."""
        waiting = 0
        for name in await self._others():
            info = await self._link.js.consumer_info(StreamName.WEBHOOKS, name)
            waiting += info.num_waiting or 0
        self._idle_looks = 0 if waiting else self._idle_looks + 1
        if self._idle_looks >= IDLE_LOOKS:
            self._idle_looks = 0
            await self._delete_others()
        elif not self._idle_looks:
            log.warning(
                "webhooks are consumed in another number of partitions by other replicas",
                fix="set INGEST_PARTITIONS to the same everywhere",
            )


async def count_replicas(link: Connection, seconds: float) -> int:
    """Count the replicas that answer within so many seconds, this one included.

    Raises:
        nats.errors.Error: NATS cannot be reached.
    """
    client = link.client
    inbox = client.new_inbox()
    answered: set[bytes] = set()

    async def note(message: Msg) -> None:
        answered.add(message.data)

    subscription = await client.subscribe(inbox, cb=note)
    try:
        await client.publish(f"$SRV.PING.hogsend-{link.user}", b"", reply=inbox)
        await asyncio.sleep(seconds)
    finally:
        await subscription.unsubscribe()
    return len(answered)


def _not_now(what: str, error: Exception) -> None:
    shared_metrics.FAILURES.labels("partitions", type(error).__name__).inc()
    log.debug(what, reason=str(error) or type(error).__name__)
