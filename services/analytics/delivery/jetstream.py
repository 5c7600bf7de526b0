"""The streams of delivery, on JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import UNREACHABLE, Consumer
from services.analytics.delivery.streams import (
    ACK_WAIT_SECONDS,
    MAX_UNACKNOWLEDGED,
    Subscription,
)

BATCH = 500
"""Messages fetched at once."""


class JetStreams:
    """`Streams` on the service's own connection."""

    def __init__(self, bus: Connection) -> None:
        self._bus = bus

    @property
    def connected(self) -> bool:
        """Whether NATS can be reached right now."""
        return self._bus.connected

    def consumer(self, subscription: Subscription) -> JetStreamConsumer:
        """The durable consumer of a subscription."""
        return JetStreamConsumer(self._bus, subscription)

    async def durables(self, stream: StreamName) -> Collection[str]:
        """Names of all durable consumers of a stream."""
        with _as_unavailable():
            return [info.name for info in await self._bus.js.consumers_info(stream)]

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        """Delete a durable consumer, if it exists."""
        with _as_unavailable(), suppress(nats.js.errors.NotFoundError):
            await self._bus.js.delete_consumer(stream, durable)


class JetStreamConsumer:
    """A durable pull consumer."""

    def __init__(self, bus: Connection, subscription: Subscription) -> None:
        self._bus = bus
        self._stream = subscription.stream
        self._config = ConsumerConfig(
            durable_name=subscription.durable,
            filter_subject=subscription.subject,
            deliver_policy=DeliverPolicy.NEW if subscription.new_only else DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=MAX_UNACKNOWLEDGED,
            max_deliver=-1,
        )

    async def create(self) -> int:
        """Create it unless it exists; give the number of its unacknowledged messages."""
        if not self._bus.connected:
            raise Unavailable("NATS is not connected")
        with _as_unavailable():
            info = await self._bus.js.add_consumer(self._stream, self._config)
        return info.num_ack_pending or 0

    async def batches(self) -> AsyncIterator[Sequence[JetStreamMessage]]:
        """Messages as they arrive."""
        consumer = Consumer(self._bus, self._stream, self._config, batch=BATCH)
        async for batch in consumer.batches():
            yield [JetStreamMessage(message) for message in batch]

    async def flush(self, seconds: int) -> None:
        """Wait until the server has seen every acknowledgement sent so far."""
        with _as_unavailable():
            await self._bus.flush(seconds)


class JetStreamMessage:
    """A message of a pull consumer."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self._metadata = message.metadata

    @property
    def subject(self) -> str:
        """Subject it was published on."""
        return self._message.subject

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""
        return self._message.headers or {}

    @property
    def body(self) -> bytes:
        """Its payload."""
        return self._message.data

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return self._metadata.stream

    @property
    def position(self) -> int:
        """Its stream sequence."""
        return self._metadata.sequence.stream

    @property
    def queued_at(self) -> datetime:
        """When the stream took it."""
        return self._metadata.timestamp

    @property
    def deliveries(self) -> int:
        """How often it has been delivered."""
        return self._metadata.num_delivered

    @property
    def pending(self) -> int:
        """How many messages wait behind it."""
        return self._metadata.num_pending

    async def ack(self) -> None:
        """Acknowledge it."""
        if not self._message.is_acked:
            with _as_unavailable():
                await self._message.ack()

    async def nak(self, delay: float) -> None:
        """Give it back."""
        if not self._message.is_acked:
            with _as_unavailable():
                await self._message.nak(delay)

    async def in_progress(self) -> None:
        """Restart its ack wait."""
        if not self._message.is_acked:
            with _as_unavailable():
                await self._message.in_progress()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        raise Unavailable(f"JetStream cannot be used: {type(error).__name__}") from error
