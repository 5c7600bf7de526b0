"""The streams of delivery, on JetStream."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy

from hogsend.contract.consumers import API
from hogsend.contract.errors import TooLarge, Unavailable
from hogsend.contract.streams import STREAMS, StreamName
from hogsend.service.broker import ServiceBroker
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.transport.connection import UNREACHABLE, Connection
from hogsend.transport.in_flight import abandon
from hogsend.transport.jetstream_error import NO_MESSAGE_FOUND, JetStreamError
from hogsend.transport.own_consumer import create_or_update, list_consumers
from services.analytics.delivery.ordered_queue import Place
from services.analytics.delivery.positions import KeptPosition, Positions
from services.analytics.delivery.streams import (
    ACK_WAIT_SECONDS,
    MAX_UNACKNOWLEDGED,
    Subscription,
)

HEARTBEAT_SECONDS = 3.0
"""How often JetStream hears that messages are still worked on; well below the ack wait."""
_ANSWER_SECONDS = 2.0


class _Found(msgspec.Struct, frozen=True):
    """JetStream's answer about one message of a stream, which is not read."""

    error: JetStreamError | None = None


def consumer_config(subscription: Subscription) -> ConsumerConfig:
    """Configure the durable consumer of a subscription."""
    return ConsumerConfig(
        durable_name=subscription.durable,
        filter_subject=subscription.subject,
        deliver_policy=DeliverPolicy.NEW if subscription.new_only else DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=MAX_UNACKNOWLEDGED,
        max_deliver=-1,
    )


def _may_begin_anywhere(stream: StreamName) -> bool:
    # A work queue keeps what is not acknowledged, and its consumers begin at its start.
    return STREAMS[stream].config.retention is RetentionPolicy.LIMITS


def received(messages: Iterable[Msg], dead_letters: DeadLetters) -> list[JetStreamMessage]:
    """Messages as delivery takes them."""
    return [JetStreamMessage(message, dead_letters) for message in messages]


class JetStreams:
    """`Streams` over the connection of the service's broker."""

    def __init__(
        self,
        broker: ServiceBroker,
        subscribers: Iterable[BatchSubscriber],
        positions: Positions,
    ) -> None:
        """Consume with `subscribers`, one for each subject of a stream."""
        self._broker = broker
        self._kept = positions
        self._positions: dict[tuple[StreamName, str], KeptPosition] = {}
        """Of the durables that this replica has made or found."""
        self._subscribers = {
            (one.stream.name, one.consumer.filter_subject): one for one in subscribers
        }

    @property
    def ready(self) -> bool:
        """Whether NATS is connected and the subscribers have been started."""
        return self._broker.running and self._broker.link.connected

    def consumer(self, subscription: Subscription) -> JetStreamConsumer:
        """The durable consumer of a subscription."""
        stream, durable = subscription.stream, subscription.durable
        subscriber = self._subscribers[stream, subscription.subject]
        link, config = self._broker.link, consumer_config(subscription)
        if not _may_begin_anywhere(stream):
            return JetStreamConsumer(link, subscriber, config)
        new = KeptPosition(self._kept, stream, durable)
        kept = self._positions.setdefault((stream, durable), new)
        return JetStreamConsumer(link, subscriber, config, kept)

    async def durables(self, stream: StreamName) -> Collection[str]:
        """Names of all durable consumers of a stream, and of those whose position is kept."""
        names = set(await self._kept.durables(stream))
        with _as_unavailable():
            for info in await list_consumers(self._broker.link.js, stream):
                names.add(info.name)
        return names

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        """Delete a durable consumer, if it exists."""
        # First: one that is left would bring back what is published after the consumer is gone.
        await self._kept.forget(stream, durable)
        self._positions.pop((stream, durable), None)
        with _as_unavailable(), suppress(nats.js.errors.NotFoundError):
            js = await self._broker.link.js_for(stream)
            await js.delete_consumer(stream, durable)

    async def save_positions(self) -> None:
        """Keep how far the consumers are that have brought something since."""
        moved = []
        for (stream, durable), kept in [*self._positions.items()]:
            if not kept.position.has_unacknowledged:
                continue
            # One that is gone is made again by its reader.
            with _as_unavailable(), suppress(nats.js.errors.NotFoundError):
                js = await self._broker.link.js_for(stream)
                if await kept.position.refresh(js, stream, durable):
                    moved.append(kept)
        # What was deleted meanwhile must not come back.
        wanted = [one.now() for one in moved if one in self._positions.values()]
        if rows := [one for one in wanted if one is not None]:
            await self._kept.save(rows)


class JetStreamConsumer:
    """A durable pull consumer."""

    def __init__(
        self,
        link: Connection,
        subscriber: BatchSubscriber,
        config: ConsumerConfig,
        kept: KeptPosition | None = None,
    ) -> None:
        self._link = link
        self._subscriber = subscriber
        self._stream = subscriber.stream.name
        self._config = config
        self._kept = kept
        self._stream_made_at: datetime | None = None
        """When the stream was made that all messages are of which were read since `create`."""

    async def create(self) -> int:
        """Create it unless it exists; give the number of its unacknowledged messages."""
        if not self._link.connected:
            raise Unavailable("NATS is not connected")
        if self._kept is not None:
            await self._kept.recall()
        with _as_unavailable():
            js = await self._link.js_for(self._stream)
            if self._kept is None:
                info = await create_or_update(js, self._stream, self._config)
            else:
                info = await self._kept.position.ensure_consumer(js, self._stream, self._config)
            self._stream_made_at = (await js.stream_info(self._stream)).created
        if self._kept is not None:
            await self._kept.keep()
        return info.num_ack_pending or 0

    async def deleted(self, places: Collection[Place]) -> Collection[Place]:
        """Ask the stream's leader for each message."""
        missing = [one for one in places if not await self._has(one[0])]
        if not missing:
            return missing
        with _as_unavailable():
            stream = await self._link.js.stream_info(self._stream)
        # A stream that was lost meanwhile, and made anew or restored, never had the others.
        last, made_at = stream.state.last_seq, stream.created
        is_same = made_at is not None and made_at == self._stream_made_at
        return [
            (position, queued_at)
            for position, queued_at in missing
            if position <= last
            # A restored stream is younger than what it holds.
            and (is_same or (queued_at and made_at and queued_at >= made_at))
        ]

    async def _has(self, position: int) -> bool:
        subject = f"{API}.STREAM.MSG.GET.{self._stream}"
        asked = json.dumps({"seq": position}).encode()
        with _as_unavailable():
            answer = await self._link.request_raw(subject, asked, seconds=_ANSWER_SECONDS)
        error = msgspec.json.decode(answer.data, type=_Found).error
        if error is not None and error.err_code != NO_MESSAGE_FOUND:
            raise Unavailable(f"JetStream refuses: {error.description}")
        return error is None

    async def run(self) -> None:
        """Hand its messages to the subscriber's handler until cancelled."""
        position = None if self._kept is None else self._kept.position
        await self._subscriber.run(self._config, heartbeat=HEARTBEAT_SECONDS, position=position)


class JetStreamMessage:
    """A message of a pull consumer."""

    def __init__(self, message: Msg, dead_letters: DeadLetters) -> None:
        self._message = message
        self._metadata = message.metadata
        self._dead_letters = dead_letters

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
    def durable(self) -> str:
        """Name of the consumer that delivered it."""
        return self._metadata.consumer

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
        if self._message.is_acked:
            return
        # Not `_as_unavailable`: a context manager for each event costs as much as its frame.
        try:
            await self._message.ack()
        except UNREACHABLE as error:
            abandon(self._message)
            raise _unavailable(error) from error

    async def give_back(self, seconds: float) -> None:
        """Have it delivered again."""
        try:
            await self._message.nak(seconds)
        except UNREACHABLE as error:
            abandon(self._message)
            raise _unavailable(error) from error

    async def set_aside(
        self, why: Unprocessable, *, attempts: int, headers: Mapping[str, str]
    ) -> None:
        """Keep it as a dead letter, without its body where the bus takes that in no way."""
        for with_body in (True, False):
            try:
                await self._dead_letters.publish(
                    self._message,
                    why,
                    attempts=attempts,
                    # Two destinations may each fail on the same message.
                    consumer=self.durable,
                    marks=headers,
                    with_body=with_body,
                )
            except TooLarge:
                if not with_body:
                    raise
            else:
                return


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"JetStream cannot be used: {type(error).__name__}")
