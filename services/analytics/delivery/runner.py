"""Everything that is sent to PostHog: one sender for each source, as long as this replica leads."""

from __future__ import annotations

import asyncio
from uuid import UUID

import nats.errors
import nats.js.errors
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Capture
from hogsend.service.metrics import FAILURES
from hogsend.service.serving import stop
from hogsend.transport.connection import Connection
from services.analytics.delivery.dead_letters import DeadLetters
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.sender import Sender
from services.analytics.delivery.sources import (
    BucketsSource,
    DestinationSource,
    MirrorSource,
    PersonsSource,
    Source,
    durable_of,
)
from services.analytics.destinations.default_destination import DefaultDestination
from services.analytics.destinations.store import DestinationStore
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often destinations are read again."""
RESTART_SECONDS = 1.0
CONNECTED_POLL_SECONDS = 0.2

_BUS_AWAY = (nats.errors.Error, nats.js.errors.Error, OSError, Unavailable)


class DeliveryRunner:
    """The senders of one replica."""

    def __init__(
        self,
        bus: Connection,
        capture: Capture,
        project_key: ProjectKey,
        store: DestinationStore,
        settings: AnalyticsSettings,
    ) -> None:
        """Prepare without starting."""
        self._default = DefaultDestination(
            store, project_key, enabled=settings.enable_posthog_destination
        )
        self._bus = bus
        self._capture = capture
        self._project_key = project_key
        self._store = store
        self._settings = settings
        self._retry = RetryPolicy.of(settings)
        self._dead_letters = DeadLetters(bus)
        self._destinations: dict[UUID, tuple[DestinationSource, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        # Subscribing before the first connection would use an inbox this user may not read.
        while not self._bus.connected:  # noqa: ASYNC110  nats-py has no event for it
            await asyncio.sleep(CONNECTED_POLL_SECONDS)
        sources: list[Source] = [
            PersonsSource(self._project_key),
            BucketsSource(self._project_key),
        ]
        if self._settings.analytics_event_mirror:
            sources.append(self._mirror())
        tasks = [asyncio.create_task(self._keep_sending(source)) for source in sources]
        tasks.append(asyncio.create_task(self._follow_destinations()))
        try:
            await asyncio.gather(*tasks)
        finally:
            await stop(*tasks, *(task for _, task in self._destinations.values()))
            self._destinations.clear()

    def _mirror(self) -> MirrorSource:
        settings = self._settings
        return MirrorSource(
            self._project_key,
            settings.analytics_event_mirror_allow,
            settings.analytics_event_mirror_deny,
        )

    async def _keep_sending(self, source: Source) -> None:
        while True:
            sender = Sender(source, self._bus, self._capture, self._dead_letters, self._retry)
            try:
                await sender.run()
            except Exception as error:
                # Nobody foresaw this: what is in hand was given back, and is taken again.
                FAILURES.labels("sender", type(error).__name__).inc()
                log.exception("sender failed, starts again", source=source.name)
            await asyncio.sleep(RESTART_SECONDS)

    async def _follow_destinations(self) -> None:
        if not self._settings.analytics_event_mirror:
            # Switched on again some day, it must not begin with what happened meanwhile.
            await self._forget_consumer(StreamName.EVENTS, MirrorSource.name)
        await self._forget_orphans()
        has_default = False
        while True:
            has_default = has_default or await self._default.ensure()
            try:
                await self._reconcile()
            except Unavailable as error:
                log.debug("destinations cannot be read now", reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def _reconcile(self) -> None:
        wanted = {one.id: one for one in await self._store.all()}
        for id in self._destinations.keys() - wanted.keys():
            _, task = self._destinations.pop(id)
            await stop(task)
            await self._forget_consumer(StreamName.ENGAGEMENT, durable_of(id))
        for id, destination in wanted.items():
            if id in self._destinations:
                self._destinations[id][0].destination = destination
                continue
            source = DestinationSource(
                destination,
                self._project_key,
                self._store,
                default_enabled=self._settings.enable_posthog_destination,
            )
            self._destinations[id] = source, asyncio.create_task(self._keep_sending(source))

    async def _forget_orphans(self) -> None:
        """Delete consumers of destinations that are gone: they would keep engagement for ever."""
        prefix = f"{DestinationSource.name}-"
        try:
            known = {durable_of(one.id) for one in await self._store.all()}
            found = await self._bus.js.consumers_info(StreamName.ENGAGEMENT)
        except _BUS_AWAY as error:
            FAILURES.labels("orphans", type(error).__name__).inc()
            log.warning("consumers of deleted destinations not looked for", reason=str(error))
            return
        for info in found:
            if info.name.startswith(prefix) and info.name not in known:
                await self._forget_consumer(StreamName.ENGAGEMENT, info.name)

    async def _forget_consumer(self, stream: StreamName, name: str) -> None:
        try:
            await self._bus.js.delete_consumer(stream, name)
        except nats.js.errors.NotFoundError:
            return
        except _BUS_AWAY as error:
            FAILURES.labels("orphans", type(error).__name__).inc()
            log.warning("consumer not deleted", consumer=name, reason=str(error))
