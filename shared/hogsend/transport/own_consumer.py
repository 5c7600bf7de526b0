"""Consumers of Hogsend's services: made as declared, and made again at their last position."""

from __future__ import annotations

from datetime import datetime

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError

_CANNOT_CHANGE = 10012
"""JetStream's code for a change of what a consumer has for good."""


class Position:
    """How far a durable consumer was read, for when it is deleted.

    Made again as declared it would begin with what is new by then, and leave out what was published
    meanwhile; or with what it has read long ago. What was acknowledged since the last look comes
    again. Not for a stream whose consumers may begin at its start only (a work queue).
    """

    def __init__(self, stream_made_at: datetime | None = None, acknowledged: int = 0) -> None:
        """Know what was kept, or nothing.

        Args:
            stream_made_at: when the stream was made: sequences of another one say nothing.
            acknowledged: its sequence up to which everything is acknowledged.
        """
        self._stream_made_at = stream_made_at
        self._acknowledged = acknowledged
        self._delivered = 0

    @property
    def stream_made_at(self) -> datetime | None:
        """When the stream was made that it is about; None while nothing is known."""
        return self._stream_made_at

    @property
    def acknowledged(self) -> int:
        """Sequence up to which everything was acknowledged when last looked at."""
        return self._acknowledged

    @property
    def is_behind(self) -> bool:
        """Whether more was delivered than is known to be acknowledged."""
        return self._delivered > self._acknowledged

    def reached(self, sequence: int) -> None:
        """Note that a message was delivered."""
        self._delivered = max(self._delivered, sequence)

    def continues(self, earlier: Position) -> None:
        """Take over where another one is."""
        self._stream_made_at = earlier.stream_made_at
        self._acknowledged = earlier.acknowledged

    async def made(self, js: JetStreamContext, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        """Make the consumer where it had been, or as declared if that is not known; or find it.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached, or refuses.
        """
        found = await js.stream_info(stream)
        if found.created == self._stream_made_at:
            # A stream that was restored from a backup may end before what was acknowledged.
            self._acknowledged = min(self._acknowledged, found.state.last_seq)
            config = config.evolve(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._acknowledged + 1,
            )
        else:
            self._acknowledged = 0
        info = await made(js, stream, config)
        self._stream_made_at, self._delivered = found.created, 0
        self._note(info)
        return info

    async def look(self, js: JetStreamContext, stream: str, consumer: str) -> bool:
        """Ask how far the consumer is now; whether that has changed.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached, or there is no such consumer.
        """
        before = self._acknowledged
        self._note(await js.consumer_info(stream, consumer))
        return self._acknowledged != before

    def _note(self, info: ConsumerInfo) -> None:
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        # Until the first acknowledgement nats-server before 2.14 says 0, wherever a consumer began.
        self._acknowledged = floor or max(self._acknowledged, _begun_after(info))


def _begun_after(info: ConsumerInfo) -> int:
    """Sequence behind which a consumer began; 0 where it delivered something since."""
    delivered = info.delivered
    return delivered.stream_seq if delivered and not delivered.consumer_seq else 0


async def made(js: JetStreamContext, stream: str, config: ConsumerConfig) -> ConsumerInfo:
    """Make a consumer, or bring one that exists up to date, except for where it began.

    Raises:
        nats.errors.Error: NATS or JetStream cannot be reached, or refuses.
    """
    try:
        return await js.add_consumer(stream, config)
    except APIError as error:
        if error.err_code != _CANNOT_CHANGE:
            raise
        # Made again at a position, it has another beginning than declared, for good.
        name = config.durable_name or config.name or ""
        known = (await js.consumer_info(stream, name)).config
        same_begin = config.evolve(
            deliver_policy=known.deliver_policy, opt_start_seq=known.opt_start_seq
        )
        return await js.add_consumer(stream, same_begin)


async def consumers_of(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    """Every consumer of a stream; JetStream gives a page of them at a time.

    Raises:
        nats.errors.Error: NATS or JetStream cannot be reached, or there is no such stream.
    """
    found: list[ConsumerInfo] = []
    while page := await js.consumers_info(stream, offset=len(found)):
        found += page
    return found
