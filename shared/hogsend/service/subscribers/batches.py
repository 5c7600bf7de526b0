"""A FastStream subscriber that consumes a stream in batches."""

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
from hogsend.service.pull_lock import PARTIAL_BATCH_SECONDS, PullLock
from hogsend.service.subscribers.internals import call_directly, subscriber_parts
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.in_flight import HEARTBEAT_SECONDS, InFlightMessages
from hogsend.transport.own_consumer import Position
from hogsend.transport.pull import BATCH_BYTES

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig


log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0
"""Redelivery delay of a message whose handler raised an unexpected error."""
ATTEMPT_SECONDS = 2.0
"""Pause between two attempts at a message that blocks later ones."""
REFUSED_SECONDS = 5.0
"""Pause before reading a stream again that NATS refused to let this service read."""
NAK_SECONDS = 1.0
"""Redelivery delay of messages that are nak'ed at the end. Without a delay, JetStream would
redeliver them at once to a pull request of this process that is still open."""

OnNak = Callable[[int], None]


class BatchSubscriber(BatchPullStreamSubscriber):
    """Passes batches of a stream to a handler, which acknowledges each message itself."""

    def __init__(
        self,
        stream: str,
        consumer: ConsumerConfig,
        broker_config: NatsBrokerConfig,
        *,
        batch: int,
        workers: int,
        auto_start: bool,
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
        """Maximum number of messages in a batch; can be set until the subscriber starts."""
        self._workers = workers if auto_start else 0
        self._pull_lock = PullLock()
        self._on_nak = on_nak

    async def run(
        self,
        consumer: ConsumerConfig | None = None,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        position: Position | None = None,
    ) -> None:
        """Consume until cancelled, and then nak the messages that are not acknowledged.

        Unlike the workers that `start` runs, this keeps messages in flight after the handler
        returned, for handlers that acknowledge them later. It also consumes with a consumer that
        is only known while the service runs.

        Args:
            consumer: replaces the declared one.
            heartbeat: seconds between two heartbeats of each message in flight.
            position: where the consumer starts when it has to be recreated; None starts it as its
                configuration states.
        """
        in_flight = self._in_flight(heartbeat)
        source = Consumer(
            self._connection(),
            self.stream.name,
            consumer or self.consumer,
            batch=self.batch,
            position=position,
        )
        async with in_flight.keeping_alive(NAK_SECONDS, self._report_naks):
            async for messages in source.batches():
                in_flight.add(messages)
                await self._process(messages)

    async def stop(self) -> None:
        """Stop consuming, and nak the messages in flight."""
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
                # FastStream would restart this task at once, without a pause.
                metrics.FAILURES.labels("consumer", type(error).__name__).inc()
                log.error("a stream cannot be read", stream=self.stream.name, reason=str(error))  # noqa: TRY400
                await asyncio.sleep(REFUSED_SECONDS)
            else:
                return

    async def _consume(self) -> None:
        source = Consumer(self._connection(), self.stream.name, self.consumer, batch=self.batch)
        async with aclosing(source.batches()) as batches:
            while True:
                async with self._pull_lock.permit() as permit:
                    messages = await anext(batches, None)
                    if messages is None:
                        return
                    if self._is_backlog(messages):
                        permit.release()
                    else:
                        permit.release_after(PARTIAL_BATCH_SECONDS)
                    await self.process_batch(messages)

    def _is_backlog(self, messages: list[Msg]) -> bool:
        """Whether the batch is large enough that more messages probably wait."""
        size = sum(len(message.data) for message in messages)
        return len(messages) > self.batch // 2 or size > BATCH_BYTES // 2

    async def process_batch(self, messages: list[Msg], *, attempts: int = 1) -> None:
        """Call the handler, and nak the messages that it does not acknowledge.

        Args:
            messages: in the order of the stream.
            attempts: how often a message that fails is tried before later ones are processed.
        """
        in_flight = self._in_flight(HEARTBEAT_SECONDS)
        in_flight.add(messages)
        async with in_flight.keeping_alive(NAK_SECONDS, self._report_naks):
            await self._process(messages, attempts)

    async def _process(self, messages: list[Msg], attempts: int = 1) -> None:
        try:
            await self.process_message(messages)
        except Exception as error:  # noqa: BLE001 - no error may stop the stream
            # Process the messages alone, so that the one that fails cannot block the others.
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
        for remaining in reversed(range(attempts)):
            try:
                await self.process_message([message])
            except Exception as error:  # noqa: BLE001 - no error may stop the stream
                kind, sequence = type(error).__name__, message.metadata.sequence.stream
                metrics.FAILURES.labels("message", kind).inc()
                log.warning("message failed, it is tried again later", seq=sequence, reason=kind)
            else:
                return
            if remaining:
                await asyncio.sleep(ATTEMPT_SECONDS)
        if not message.is_acked:
            await message.nak(RETRY_SECONDS)

    def _in_flight(self, heartbeat: float) -> InFlightMessages:
        return InFlightMessages(self._connection(), _report_failure, interval=heartbeat)

    def _report_naks(self, count: int) -> None:
        if count:
            log.info("messages nak'ed", stream=self.stream.name, messages=count)
            if self._on_nak is not None:
                self._on_nak(count)

    def _connection(self) -> Connection:
        return cast("Connection", self._outer_config.extra_context["broker"].link)

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        call_directly(self.calls)


async def _unparsed(messages: list[Msg]) -> StreamMessage[list[Msg]]:
    """Wrap a batch without parsing it: FastStream's parser reads the headers of every message."""
    return NatsBatchMessage(raw_message=messages, body=[], headers={}, batch_headers=[])


async def _undecoded(message: StreamMessage[list[Msg]]) -> list[Msg]:
    """Return the raw messages. The handler decodes each, and dead-letters one it cannot decode."""
    return message.raw_message


def _report_failure(operation: str, error: Exception) -> None:
    metrics.FAILURES.labels(operation, type(error).__name__).inc()
    log.warning(
        "heartbeats or naks of messages in flight were not sent",
        operation=operation,
        reason=str(error),
    )
