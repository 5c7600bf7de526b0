"""Consumers of Hogsend's services: made as declared, and made again where they had been."""

from __future__ import annotations

from datetime import datetime

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError

_CANNOT_CHANGE = 10012
"""JetStream's code for a change of what a consumer has for good."""


class Position:
    """Where a consumer that begins with new messages has been, for when it is deleted.

    Made again as declared it would begin with what is new by then, and leave out what was published
    meanwhile. It is known to this process; a consumer that is gone when a process starts begins as
    declared.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._stream_made_at: datetime | None = None
        self._next = 0

    def reached(self, sequence: int) -> None:
        """Note that everything up to a stream sequence was delivered."""
        self._next = max(self._next, sequence + 1)

    async def made(
        self, js: JetStreamContext, stream: str, config: ConsumerConfig, *, again: bool
    ) -> ConsumerInfo:
        """Make the consumer, or find it; `again` after it was deleted.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached, or refuses.
        """
        if config.deliver_policy is not DeliverPolicy.NEW:
            return await js.add_consumer(stream, config)
        made_at = (await js.stream_info(stream)).created
        if again and self._next and made_at == self._stream_made_at:
            config = config.evolve(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._next
            )
        info = await made(js, stream, config)
        if made_at != self._stream_made_at:
            # Sequences of another stream say nothing about this one.
            self._stream_made_at, self._next = made_at, 0
        self.reached(info.ack_floor.stream_seq if info.ack_floor else 0)
        return info


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
