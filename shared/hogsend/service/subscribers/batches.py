"""Consumes a stream in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import structlog
from faststream.message import StreamMessage
from faststream.nats import JStream, PullSub
from faststream.nats.message import NatsBatchMessage
from faststream.nats.subscriber.usecases import BatchPullStreamSubscriber
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import HogsendError
from hogsend.service import metrics
from hogsend.service.tasks import cancel_all
from hogsend.service.turns import PATIENCE_SECONDS, Turns
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.in_flight import HEARTBEAT_SECONDS, InFlightMessages
from hogsend.transport.own_consumer import Position
from hogsend.transport.pull import BATCH_BYTES

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig
from hogsend.service.subscribers.internals import (
    call_directly,
    subscriber_parts,
)

log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0
"""A message that failed for an unknown reason is redelivered after this long."""
ATTEMPT_SECONDS = 2.0
"""Pause between two attempts at a message that those behind it wait for."""
REFUSED_SECONDS = 5.0
"""Pause until a stream is read again that NATS does not let this service read."""
NAK_SECONDS = 1.0
"""What is given back is redelivered after this long; sooner, our own open request would get it."""

OnNak = Callable[[int], None]


class BatchSubscriber(BatchPullStreamSubscriber):
    """Consumes a stream in batches; a handler acknowledges message by message."""

    def __init__(
        self,
        stream: str,
        consumer: ConsumerConfig,
        broker_config: NatsBrokerConfig,
        *,
        batch: int,
        workers: int,
        starts_by_itself: bool,
        on_nak: OnNak | None,
    ) -> None:
        """See `ServiceRouter.batches`."""
        subject = consumer.filter_subject or ""
        config, specification, calls = subscriber_parts(subject, "", broker_config)
        super().__init__(
            config,
            specification,
            calls,
            stream=JStream(stream, declare=False),
            pull_sub=cast("Any", PullSub(batch_size=batch, batch=True)),
        )
        self._parser = _unparsed
        self._decoder = _undecoded
        self.consumer = consumer
        self.batch = batch
        """Most messages handed over at a time; can be set until the subscriber starts."""
        self._workers = workers if starts_by_itself else 0
        self._turns = Turns()
        self._on_nak = on_nak

    async def run(
        self,
        consumer: ConsumerConfig | None = None,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        position: Position | None = None,
    ) -> None:
        """Consume until cancelled, and hold what the handler has not acknowledged until then.

        For handlers that keep messages after they return, and for consumers that are made while
        the service runs.

        Args:
            consumer: instead of the declared one.
            heartbeat: seconds between two heartbeats for each message in hand.
            position: where it begins when it is made again; None as declared.
        """
        in_flight = self._in_flight(heartbeat)
        source = Consumer(
            self._connection(),
            self.stream.name,
            consumer or self.consumer,
            batch=self.batch,
            position=position,
        )
        async with in_flight.keeping_alive(NAK_SECONDS, self._noted):
            async for messages in source.batches():
                in_flight.add(messages)
                await self._process(messages)

    async def stop(self) -> None:
        """Give back what is in hand."""
        self.running = False
        tasks, self.tasks = self.tasks, []
        await cancel_all(*tasks)
        await super().stop()

    async def _create_subscription(self) -> None:
        for _ in range(self._workers):
            self.add_task(self._consume_pull)

    async def _consume_pull(self) -> None:
        while True:
            try:
                await self._consume()
            except HogsendError as error:
                # FastStream would begin again at once, as often as it fails.
                metrics.FAILURES.labels("consumer", type(error).__name__).inc()
                log.error("a stream cannot be read", stream=self.stream.name, reason=str(error))  # noqa: TRY400
                await asyncio.sleep(REFUSED_SECONDS)
            else:
                return

    async def _consume(self) -> None:
        source = Consumer(self._connection(), self.stream.name, self.consumer, batch=self.batch)
        async with aclosing(source.batches()) as batches:
            while True:
                async with self._turns.one() as turn:
                    messages = await anext(batches, None)
                    if messages is None:
                        return
                    if self._is_backlog(messages):
                        turn.end()
                    else:
                        turn.end_within(PATIENCE_SECONDS)
                    await self.hand_over(messages)

    def _is_backlog(self, messages: list[Msg]) -> bool:
        """Whether so much was there that more of it waits, or soon will."""
        size = sum(len(message.data) for message in messages)
        return len(messages) > self.batch // 2 or size > BATCH_BYTES // 2

    async def hand_over(self, messages: list[Msg], *, attempts: int = 1) -> None:
        """Process a batch, and give back what is not acknowledged.

        Args:
            messages: in their order.
            attempts: how often a message at fault is tried before those behind it go on.
        """
        in_flight = self._in_flight(HEARTBEAT_SECONDS)
        in_flight.add(messages)
        async with in_flight.keeping_alive(NAK_SECONDS, self._noted):
            await self._process(messages, attempts)

    async def _process(self, messages: list[Msg], attempts: int = 1) -> None:
        try:
            await self.process_message(messages)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the stream
            # An unforeseen failure: find the message at fault, so that it cannot stop the others.
            kind = type(error).__name__
            metrics.FAILURES.labels("batch", kind).inc()
            log.warning(
                "batch failed, processing its messages one by one",
                messages=len(messages),
                reason=kind,
            )
            for message in messages:
                if not message.is_acked:
                    await self._process_one(message, attempts)

    async def _process_one(self, message: Msg, attempts: int) -> None:
        for left in reversed(range(attempts)):
            try:
                await self.process_message([message])
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the stream
                kind, sequence = type(error).__name__, message.metadata.sequence.stream
                metrics.FAILURES.labels("message", kind).inc()
                log.warning("message failed, it is tried again later", seq=sequence, reason=kind)
            else:
                return
            if left:
                await asyncio.sleep(ATTEMPT_SECONDS)
        if not message.is_acked:
            await message.nak(RETRY_SECONDS)

    def _in_flight(self, heartbeat: float) -> InFlightMessages:
        return InFlightMessages(self._connection(), _handled, interval=heartbeat)

    def _noted(self, given_back: int) -> None:
        if given_back:
            log.info("messages returned", stream=self.stream.name, messages=given_back)
            if self._on_nak is not None:
                self._on_nak(given_back)

    def _connection(self) -> Connection:
        return cast("Connection", self._outer_config.extra_context["broker"].link)

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        call_directly(self.calls)


async def _unparsed(messages: list[Msg]) -> StreamMessage[list[Msg]]:
    """Give a batch as it came: FastStream's own parser reads the headers of every message."""
    return NatsBatchMessage(raw_message=messages, body=[], headers={}, batch_headers=[])


async def _undecoded(message: StreamMessage[list[Msg]]) -> list[Msg]:
    """Give the raw messages: a batch is decoded one by one, where a poison message is set aside."""
    return message.raw_message


def _handled(what: str, error: Exception) -> None:
    metrics.FAILURES.labels(what, type(error).__name__).inc()
    log.warning("JetStream did not hear about messages in hand", what=what, reason=str(error))
