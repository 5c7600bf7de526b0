"""The durable consumers of destinations: engagement is kept for a destination while it has one."""

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
"""What every destination reads, under a name of its own."""


def destination_subscription(destination: UUID) -> Subscription:
    """All engagement from the moment the consumer is created."""
    return msgspec.structs.replace(ANY_DESTINATION, durable=destination_durable(destination))


class DestinationConsumers:
    """Creates and deletes them. Every method raises `Unavailable` without the broker."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def create(self, destination: UUID) -> None:
        """Keep engagement for a destination from now on."""
        await self._streams.consumer(destination_subscription(destination)).create()

    async def delete(self, destination: UUID) -> None:
        """Keep nothing for a destination any more."""
        await self._streams.delete_consumer(StreamName.ENGAGEMENT, destination_durable(destination))

    async def delete_orphans(
        self, destinations: Callable[[], Awaitable[Collection[Destination]]]
    ) -> None:
        """Delete the consumers of destinations that are gone.

        There are some when a process died after it deleted a row and before the consumer.

        Args:
            destinations: gives those there are.
        """
        durables = await self._streams.durables(StreamName.ENGAGEMENT)
        # Only now: one that is created meanwhile is stored before it has a consumer.
        known = {destination_durable(one.id) for one in await destinations()}
        for durable in durables:
            if durable.startswith(PREFIX) and durable not in known:
                await self._streams.delete_consumer(StreamName.ENGAGEMENT, durable)
