"""Implements `DeliveryMessage` of `streams.py` for messages of JetStream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from nats.aio.msg import Msg

from hogsend.contract.errors import TooLarge, Unavailable
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.in_flight import abandon


def wrap_messages(messages: Iterable[Msg], dead_letters: DeadLetters) -> list[JetStreamMessage]:
    """Wrap messages of nats-py as the messages that delivery handles."""
    return [JetStreamMessage(message, dead_letters) for message in messages]


class JetStreamMessage:
    """A message of a pull consumer: `DeliveryMessage` for JetStream."""

    def __init__(self, message: Msg, dead_letters: DeadLetters) -> None:
        self._message = message
        self._metadata = message.metadata
        self._dead_letters = dead_letters

    @property
    def subject(self) -> str:
        """Subject that the message was published on."""
        return self._message.subject

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the message; empty when it has none."""
        return self._message.headers or {}

    @property
    def body(self) -> bytes:
        """Payload of the message."""
        return self._message.data

    @property
    def durable(self) -> str:
        """Name of the consumer that delivered the message."""
        return self._metadata.consumer

    @property
    def position(self) -> int:
        """Sequence of the message in its stream."""
        return self._metadata.sequence.stream

    @property
    def queued_at(self) -> datetime:
        """When the stream stored the message."""
        return self._metadata.timestamp

    @property
    def deliveries(self) -> int:
        """How often the message was delivered; 1 the first time."""
        return self._metadata.num_delivered

    @property
    def pending(self) -> int:
        """How many messages of the consumer wait in the stream after this one."""
        return self._metadata.num_pending

    async def ack(self) -> None:
        """Acknowledge the message; has no effect the second time."""
        if self._message.is_acked:
            return
        # No context manager: it costs as much as writing the acknowledgement.
        try:
            await self._message.ack()
        except UNREACHABLE as error:
            abandon(self._message)
            raise unavailable(error) from error

    async def nak(self, seconds: float) -> None:
        """Request redelivery of the message after `seconds`."""
        try:
            await self._message.nak(seconds)
        except UNREACHABLE as error:
            abandon(self._message)
            raise unavailable(error) from error

    async def publish_dead_letter(
        self, why: Unprocessable, *, attempts: int, headers: Mapping[str, str]
    ) -> None:
        """Publish the message as a dead letter, without its body if that is too large."""
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


def unavailable(error: Exception) -> Unavailable:
    """Return the error of an operation during which NATS could not be reached."""
    return Unavailable(f"JetStream cannot be used: {type(error).__name__}")
