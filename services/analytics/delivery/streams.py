"""The interface of the streams that delivery reads, independent of the broker.

`jetstream.py` implements it for JetStream; unit tests implement it in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from hogsend.contract.streams import StreamName
from hogsend.service.dead_letters import Unprocessable
from services.analytics.delivery.ordered_queue import Place

ACK_WAIT_SECONDS = 10
"""A message is redelivered when it is neither acknowledged nor kept in progress for this long."""
MAX_UNACKNOWLEDGED = 2000
"""Limit of events of one source in memory; further events wait in the stream."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that a source reads, and the name of its durable consumer."""

    stream: StreamName
    subject: str
    durable: str
    new_only: bool = False
    """Whether the consumer skips messages that were published before it was created."""


class ReadableMessage(Protocol):
    """A message, as the sources read it."""

    @property
    def subject(self) -> str:
        """Subject that the message was published on."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the message; empty when it has none."""

    @property
    def body(self) -> bytes:
        """Payload of the message."""

    @property
    def position(self) -> int:
        """Sequence of the message in its stream."""

    @property
    def queued_at(self) -> datetime:
        """When the stream stored the message."""


class DeliveryMessage(ReadableMessage, Protocol):
    """A message that is redelivered unless it is acknowledged."""

    @property
    def durable(self) -> str:
        """Name of the consumer that delivered the message."""

    @property
    def deliveries(self) -> int:
        """How often the message was delivered; 1 the first time."""

    @property
    def pending(self) -> int:
        """How many messages of the consumer wait in the stream after this one."""

    async def ack(self) -> None:
        """Acknowledge the message; has no effect the second time.

        Raises:
            Unavailable: the broker cannot be reached; the message is redelivered.
        """

    async def nak(self, seconds: float) -> None:
        """Request redelivery of the message after `seconds`.

        Raises:
            Unavailable: the broker cannot be reached; the message is redelivered after the ack
                wait.
        """

    async def publish_dead_letter(
        self, why: Unprocessable, *, attempts: int, headers: Mapping[str, str]
    ) -> None:
        """Publish the message as a dead letter; it may be acknowledged when this returns.

        Args:
            why: reason and detail.
            attempts: number of attempts to send it.
            headers: added to the message's own headers when the dead letter is replayed.

        Raises:
            HogsendError: the dead letter cannot be stored now.
        """


class Consumer(Protocol):
    """A durable consumer."""

    async def create(self) -> int:
        """Create the consumer unless it exists, and return its number of unacknowledged messages.

        Raises:
            Unavailable: the broker cannot be reached, or the stream does not exist yet.
        """

    async def find_deleted(self, places: Collection[Place]) -> Collection[Place]:
        """Return the unacknowledged messages that were deleted from the stream, as by an erasure.

        Messages that were lost because the stream itself was lost or restored are not included.

        Raises:
            HogsendError: the broker does not report this now.
        """

    async def run(self) -> None:
        """Pass the consumer's messages to `DeliveryRunner.enqueue` until cancelled.

        Heartbeats prevent the redelivery of messages in memory. On cancellation, messages that were
        not acknowledged are nak'ed.
        """


class Streams(Protocol):
    """The broker."""

    @property
    def ready(self) -> bool:
        """Whether consumers can run now."""

    def consumer(self, subscription: Subscription) -> Consumer:
        """Return the durable consumer of a subscription, which may not exist yet."""

    async def durables(self, stream: StreamName) -> Collection[str]:
        """Return the names of a stream's durable consumers, and of those with a saved position.

        Raises:
            Unavailable: the broker cannot be reached, or the stream does not exist yet.
        """

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        """Delete a durable consumer, if it exists, and its saved position.

        Raises:
            Unavailable: the broker or PostgreSQL cannot be reached.
        """

    async def save_positions(self) -> None:
        """Save the positions of consumers, in case they are deleted while no replica runs.

        Raises:
            Unavailable: the broker or PostgreSQL cannot be reached.
        """
