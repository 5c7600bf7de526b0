"""Runs one sender for each destination, started and stopped as destinations change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.destination_consumers import DestinationConsumers
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.source import Source
from services.analytics.destinations.default_destination import DefaultDestination
from services.analytics.destinations.model import Destination
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How often destinations are read from the database."""


class DestinationSenders:
    """Runs the senders of all destinations."""

    def __init__(
        self,
        store: DestinationStore,
        consumers: DestinationConsumers,
        default: DefaultDestination,
        source_of: Callable[[Destination], DestinationSource],
        keep_sending: Callable[[Source], Coroutine[Any, Any, None]],
    ) -> None:
        """Read destinations from `store`, and run `keep_sending` for each of their sources."""
        self._store = store
        self._consumers = consumers
        self._default = default
        self._source_of = source_of
        self._keep_sending = keep_sending
        self._running: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        has_default = False
        try:
            await self._delete_orphaned_consumers()
            while True:
                has_default = has_default or await self._default.ensure()
                await self._follow_store()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await cancel_all(*self._running.values())

    async def _follow_store(self) -> None:
        try:
            stored = {destination.id: destination for destination in await self._store.all()}
        except Unavailable as error:
            FAILURES.labels("destinations", error.code).inc()
            log.debug("destinations cannot be read now", reason=str(error))
            return
        for id in self._running.keys() - stored.keys():
            await cancel_all(self._running.pop(id))
            await self._delete_consumer(id)
        for id, destination in stored.items():
            # A running sender refreshes its destination itself before it reads and sends.
            if id not in self._running:
                source = self._source_of(destination)
                self._running[id] = asyncio.create_task(self._keep_sending(source))

    async def _delete_orphaned_consumers(self) -> None:
        try:
            await self._consumers.delete_orphans(self._store.all)
        except Unavailable as error:
            FAILURES.labels("orphans", error.code).inc()
            log.warning("consumers of deleted destinations were not removed", reason=str(error))

    async def _delete_consumer(self, id: UUID) -> None:
        try:
            await self._consumers.delete(id)
        except Unavailable as error:
            FAILURES.labels("orphans", error.code).inc()
            log.warning("consumer not deleted", destination=str(id), reason=str(error))
