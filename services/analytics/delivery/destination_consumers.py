"""The durable consumers of destinations: the stream keeps engagement until each has read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from services.analytics.delivery.streams import Streams, Subscription
from services.analytics.destinations.durable import PREFIX, destination_durable
from services.analytics.destinations.model import Destination

ANY_DESTINATION = Subscription(
    stream=StreamName.ENGAGEMENT,
    subject=f"{subjects.ENGAGEMENT}.>",
    durable=f"{PREFIX}<id>",
    new_only=True,
)
"""The subscription of every destination; each has its own durable name."""


def destination_subscription(destination: UUID) -> Subscription:
    """Return the subscription of a destination to all engagement after its consumer is created."""
    return msgspec.structs.replace(ANY_DESTINATION, durable=destination_durable(destination))


class DestinationConsumers:
    """Creates and deletes the consumers of destinations.

    Every method raises `Unavailable` while the broker cannot be reached.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def create(self, destination: UUID) -> None:
        """Create the consumer of a destination: engagement from now on waits for it."""
        await self._streams.consumer(destination_subscription(destination)).create()

    async def delete(self, destination: UUID) -> None:
        """Delete the consumer of a destination: engagement no longer waits for it."""
        await self._streams.delete_consumer(StreamName.ENGAGEMENT, destination_durable(destination))

    async def delete_orphans(
        self, destinations: Callable[[], Awaitable[Collection[Destination]]]
    ) -> None:
        """Delete the consumers of deleted destinations.

        A consumer outlives its destination when a process dies after it deleted the destination's
        row and before it deleted the consumer.

        Args:
            destinations: reads all destinations.
        """
        durables = await self._streams.durables(StreamName.ENGAGEMENT)
        # Read after the durables: the row of a destination is created before its consumer, so a
        # destination that is created meanwhile is included.
        stored = {destination_durable(destination.id) for destination in await destinations()}
        for durable in durables:
            if durable.startswith(PREFIX) and durable not in stored:
                await self._streams.delete_consumer(StreamName.ENGAGEMENT, durable)
