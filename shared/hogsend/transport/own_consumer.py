"""Consumers of Hogsend's own services: created as declared, recreated at their last position."""

from __future__ import annotations

from datetime import datetime

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError

_CANNOT_CHANGE = 10012
"""JetStream's code for an update of a setting that a consumer keeps for its lifetime."""


class Position:
    """How far a durable consumer was read, in case it is deleted and has to be recreated.

    A consumer that is recreated as declared starts with new messages and skips those published in
    between, or starts with messages that were read long ago. One that is recreated at its position
    repeats only what was acknowledged since the last refresh.

    Not for a work queue: its consumers can only start at the first message of the stream.
    """

    def __init__(self, stream_created_at: datetime | None = None, acknowledged: int = 0) -> None:
        """Start from a stored position, or from none.

        Args:
            stream_created_at: creation time of the stream. A sequence of a stream that was deleted
                means nothing in its successor.
            acknowledged: stream sequence up to which every message is acknowledged.
        """
        self._stream_created_at = stream_created_at
        self._acknowledged = acknowledged
        self._delivered = 0

    @property
    def stream_created_at(self) -> datetime | None:
        """Creation time of the stream this position belongs to; None while it is not known."""
        return self._stream_created_at

    @property
    def acknowledged(self) -> int:
        """Stream sequence up to which every message was acknowledged at the last refresh."""
        return self._acknowledged

    @property
    def has_unacknowledged(self) -> bool:
        """Whether a message was delivered that is not known to be acknowledged."""
        return self._delivered > self._acknowledged

    def note_delivered(self, sequence: int) -> None:
        """Note that the message with this stream sequence was delivered."""
        self._delivered = max(self._delivered, sequence)

    def copy_from(self, earlier: Position) -> None:
        """Take over the values of another position."""
        self._stream_created_at = earlier.stream_created_at
        self._acknowledged = earlier.acknowledged

    async def ensure_consumer(
        self, js: JetStreamContext, stream: str, config: ConsumerConfig
    ) -> ConsumerInfo:
        """Create the consumer unless it exists: at this position, or as declared without one.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached, or refuses.
        """
        stream_info = await js.stream_info(stream)
        if stream_info.created == self._stream_created_at:
            # A stream that was restored from a backup may end before the acknowledged sequence.
            self._acknowledged = min(self._acknowledged, stream_info.state.last_seq)
            config = config.evolve(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._acknowledged + 1,
            )
        else:
            self._acknowledged = 0
        consumer = await create_or_update(js, stream, config)
        self._stream_created_at, self._delivered = stream_info.created, 0
        self._update(consumer)
        return consumer

    async def refresh(self, js: JetStreamContext, stream: str, consumer: str) -> bool:
        """Read the position from JetStream, and return whether it has changed.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached, or there is no such consumer.
        """
        before = self._acknowledged
        self._update(await js.consumer_info(stream, consumer))
        return self._acknowledged != before

    def _update(self, info: ConsumerInfo) -> None:
        ack_floor = info.ack_floor.stream_seq if info.ack_floor else 0
        # Before the first acknowledgement, nats-server before 2.14 reports 0 wherever the consumer
        # started.
        self._acknowledged = ack_floor or max(self._acknowledged, _started_after(info))


def _started_after(info: ConsumerInfo) -> int:
    """Return the sequence before a consumer's first message; 0 once it has delivered a message."""
    delivered = info.delivered
    return delivered.stream_seq if delivered and not delivered.consumer_seq else 0


async def create_or_update(
    js: JetStreamContext, stream: str, config: ConsumerConfig
) -> ConsumerInfo:
    """Create a consumer, or update an existing one. An existing one keeps its start position.

    Raises:
        nats.errors.Error: NATS or JetStream cannot be reached, or refuses.
    """
    try:
        return await js.add_consumer(stream, config)
    except APIError as error:
        if error.err_code != _CANNOT_CHANGE:
            raise
        # A consumer that was recreated at a position has another start than declared, and JetStream
        # does not change the start of a consumer.
        name = config.durable_name or config.name or ""
        existing = (await js.consumer_info(stream, name)).config
        same_start = config.evolve(
            deliver_policy=existing.deliver_policy, opt_start_seq=existing.opt_start_seq
        )
        return await js.add_consumer(stream, same_start)


async def list_consumers(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    """Return every consumer of a stream. JetStream sends them in pages.

    Raises:
        nats.errors.Error: NATS or JetStream cannot be reached, or there is no such stream.
    """
    consumers: list[ConsumerInfo] = []
    while page := await js.consumers_info(stream, offset=len(consumers)):
        consumers += page
    return consumers
