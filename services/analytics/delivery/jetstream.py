"""Implements `Streams` and `Consumer` of `streams.py` on JetStream."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy

from hogsend.contract.consumers import API
from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import STREAMS, StreamName
from hogsend.service.broker import ServiceBroker
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.jetstream_error import NO_MESSAGE_FOUND, JetStreamError
from hogsend.transport.own_consumer import create_or_update, list_consumers
from services.analytics.delivery.jetstream_message import unavailable
from services.analytics.delivery.ordered_queue import Place
from services.analytics.delivery.positions import Positions, TrackedPosition
from services.analytics.delivery.streams import ACK_WAIT_SECONDS, MAX_UNACKNOWLEDGED, Subscription

HEARTBEAT_SECONDS = 3.0
"""How often JetStream is notified that messages are in progress; well below the ack wait."""
_REPLY_SECONDS = 2.0


class _GetReply(msgspec.Struct, frozen=True):
    """JetStream's reply to a request for one message; the message itself is not decoded."""

    error: JetStreamError | None = None


def consumer_config(subscription: Subscription) -> ConsumerConfig:
    """Return the configuration of a subscription's durable consumer."""
    return ConsumerConfig(
        durable_name=subscription.durable,
        filter_subject=subscription.subject,
        deliver_policy=DeliverPolicy.NEW if subscription.new_only else DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=MAX_UNACKNOWLEDGED,
        max_deliver=-1,
    )


def _needs_position(stream: StreamName) -> bool:
    # A work queue deletes acknowledged messages, so a consumer that is created again starts at the
    # right message without a position.
    return STREAMS[stream].config.retention is RetentionPolicy.LIMITS


class JetStreams:
    """`Streams` over the connection of the service's broker."""

    def __init__(
        self,
        broker: ServiceBroker,
        subscribers: Iterable[BatchSubscriber],
        positions: Positions,
    ) -> None:
        """Consume with `subscribers`, one for each combination of stream and subject."""
        self._broker = broker
        self._saved = positions
        self._tracked: dict[tuple[StreamName, str], TrackedPosition] = {}
        """Positions of the durables that this replica uses."""
        self._subscribers = {
            (subscriber.stream.name, subscriber.consumer.filter_subject): subscriber
            for subscriber in subscribers
        }

    @property
    def ready(self) -> bool:
        """Whether NATS is connected and the subscribers have been started."""
        return self._broker.running and self._broker.link.connected

    def consumer(self, subscription: Subscription) -> JetStreamConsumer:
        """Return the durable consumer of a subscription."""
        stream, durable = subscription.stream, subscription.durable
        subscriber = self._subscribers[stream, subscription.subject]
        link, config = self._broker.link, consumer_config(subscription)
        if not _needs_position(stream):
            return JetStreamConsumer(link, subscriber, config)
        new = TrackedPosition(self._saved, stream, durable)
        tracked = self._tracked.setdefault((stream, durable), new)
        return JetStreamConsumer(link, subscriber, config, tracked)

    async def durables(self, stream: StreamName) -> Collection[str]:
        """Return the names of a stream's durable consumers, and of those with a saved position."""
        names = set(await self._saved.durables(stream))
        with _as_unavailable():
            for info in await list_consumers(self._broker.link.js, stream):
                names.add(info.name)
        return names

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        """Delete a durable consumer, if it exists, and its saved position."""
        # The position first: with it, a consumer that is created again later would start with the
        # messages that were published after this deletion.
        await self._saved.delete(stream, durable)
        self._tracked.pop((stream, durable), None)
        with _as_unavailable(), suppress(nats.js.errors.NotFoundError):
            js = await self._broker.link.js_for(stream)
            await js.delete_consumer(stream, durable)

    async def save_positions(self) -> None:
        """Save the positions of consumers that delivered messages since the last save."""
        moved = []
        for (stream, durable), tracked in [*self._tracked.items()]:
            if not tracked.position.has_unacknowledged:
                continue
            # The reader of a deleted consumer creates it again.
            with _as_unavailable(), suppress(nats.js.errors.NotFoundError):
                js = await self._broker.link.js_for(stream)
                if await tracked.position.refresh(js, stream, durable):
                    moved.append(tracked)
        # A position that was deleted meanwhile must not be saved again.
        current = [one.current() for one in moved if one in self._tracked.values()]
        if positions := [position for position in current if position is not None]:
            await self._saved.save(positions)


class JetStreamConsumer:
    """A durable pull consumer."""

    def __init__(
        self,
        link: Connection,
        subscriber: BatchSubscriber,
        config: ConsumerConfig,
        tracked: TrackedPosition | None = None,
    ) -> None:
        self._link = link
        self._subscriber = subscriber
        self._stream = subscriber.stream.name
        self._config = config
        self._tracked = tracked
        self._stream_created_at: datetime | None = None
        """When the stream was created that all messages since `create` were read from."""

    async def create(self) -> int:
        """Create the consumer unless it exists; return its number of unacknowledged messages."""
        if not self._link.connected:
            raise Unavailable("NATS is not connected")
        if self._tracked is not None:
            await self._tracked.load()
        with _as_unavailable():
            js = await self._link.js_for(self._stream)
            if self._tracked is None:
                info = await create_or_update(js, self._stream, self._config)
            else:
                info = await self._tracked.position.ensure_consumer(js, self._stream, self._config)
            self._stream_created_at = (await js.stream_info(self._stream)).created
        if self._tracked is not None:
            await self._tracked.save()
        return info.num_ack_pending or 0

    async def find_deleted(self, places: Collection[Place]) -> Collection[Place]:
        """Return the messages that were deleted, by a request to the stream's leader for each."""
        missing = [place for place in places if not await self._is_stored(place[0])]
        if not missing:
            return missing
        with _as_unavailable():
            stream = await self._link.js.stream_info(self._stream)
        # A missing message was deleted only if the stream has ever had it. A stream that was lost
        # meanwhile, and created again or restored from a backup, may never have had it.
        last, created_at = stream.state.last_seq, stream.created
        is_same = created_at is not None and created_at == self._stream_created_at
        return [
            (position, queued_at)
            for position, queued_at in missing
            if position <= last
            # The creation time of a restored stream is later than its messages' times.
            and (is_same or (queued_at and created_at and queued_at >= created_at))
        ]

    async def _is_stored(self, position: int) -> bool:
        subject = f"{API}.STREAM.MSG.GET.{self._stream}"
        request = json.dumps({"seq": position}).encode()
        with _as_unavailable():
            reply = await self._link.request_raw(subject, request, seconds=_REPLY_SECONDS)
        error = msgspec.json.decode(reply.data, type=_GetReply).error
        if error is not None and error.err_code != NO_MESSAGE_FOUND:
            raise Unavailable(f"JetStream refuses: {error.description}")
        return error is None

    async def run(self) -> None:
        """Pass the consumer's messages to the subscriber's handler until cancelled."""
        position = None if self._tracked is None else self._tracked.position
        await self._subscriber.run(self._config, heartbeat=HEARTBEAT_SECONDS, position=position)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        raise unavailable(error) from error
