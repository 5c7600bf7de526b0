"""What delivery needs from the streams it reads, without naming the broker.

`jetstream.py` implements it for JetStream; unit tests have an implementation in memory.
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
"""A message is delivered again when nothing is said about it for so long."""
MAX_UNACKNOWLEDGED = 2000
"""Events of one source in memory at most; the others wait in the stream."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages one source reads, and under which name its progress is kept."""

    stream: StreamName
    subject: str
    durable: str
    new_only: bool = False
    """Whether reading starts with what is published after the consumer was created."""


class ReadableMessage(Protocol):
    """A message, as the sources read it."""

    @property
    def subject(self) -> str:
        """Subject it was published on."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers; empty when it has none."""

    @property
    def body(self) -> bytes:
        """Its payload."""

    @property
    def position(self) -> int:
        """Its sequence in the stream."""

    @property
    def queued_at(self) -> datetime:
        """When the stream took it."""


class DeliveryMessage(ReadableMessage, Protocol):
    """A message that is delivered again unless it is acknowledged."""

    @property
    def durable(self) -> str:
        """Name of the consumer that delivered it."""

    @property
    def deliveries(self) -> int:
        """How often it has been delivered; 1 the first time."""

    @property
    def pending(self) -> int:
        """How many messages wait behind it in the stream."""

    async def ack(self) -> None:
        """Acknowledge it; has no effect the second time.

        Raises:
            Unavailable: the broker cannot be told; the message is delivered again.
        """

    async def give_back(self, seconds: float) -> None:
        """Have it delivered again after so many seconds: nothing is done about it until then.

        Raises:
            Unavailable: the broker cannot be told; it is delivered again after the ack wait.
        """

    async def set_aside(
        self, why: Unprocessable, *, attempts: int, headers: Mapping[str, str]
    ) -> None:
        """Keep it as a dead letter; it may be acknowledged when this returns.

        Args:
            why: reason and detail.
            attempts: how often it was tried to be sent.
            headers: added to its own when the dead letter is replayed.

        Raises:
            HogsendError: it cannot be kept now.
        """


class Consumer(Protocol):
    """A durable consumer."""

    async def create(self) -> int:
        """Create it unless it exists; give the number of its unacknowledged messages.

        Raises:
            Unavailable: the broker cannot be reached, or the stream does not exist yet.
        """

    async def deleted(self, places: Collection[Place]) -> Collection[Place]:
        """Say which of its unacknowledged messages the stream has no more, as after an erasure.

        What was lost with the stream itself is not among them.

        Raises:
            HogsendError: that cannot be found out now.
        """

    async def run(self) -> None:
        """Hand its messages to `DeliveryRunner.enqueue` until cancelled.

        Until they are acknowledged, they are kept from being delivered again. What is left when it
        is cancelled is given back to the broker.
        """


class Streams(Protocol):
    """The broker."""

    @property
    def ready(self) -> bool:
        """Whether consumers can run now."""

    def consumer(self, subscription: Subscription) -> Consumer:
        """The durable consumer of a subscription, which may not exist yet."""

    async def durables(self, stream: StreamName) -> Collection[str]:
        """Names of all durable consumers of a stream, and of those whose position is kept.

        Raises:
            Unavailable: the broker cannot be reached, or the stream does not exist yet.
        """

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        """Delete a durable consumer, if it exists, and forget how far it was read.

        Raises:
            Unavailable: the broker or PostgreSQL cannot be reached.
        """

    async def save_positions(self) -> None:
        """Keep how far consumers were read, for when they are deleted while no replica runs.

        Raises:
            Unavailable: the broker or PostgreSQL cannot be reached.
        """
