"""Everything that is sent to PostHog: one sender for each source, while this replica leads."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.batch_delivery import CaptureApi
from services.analytics.delivery.destination_consumers import DestinationConsumers
from services.analytics.delivery.destination_senders import DestinationSenders
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.sender import Sender
from services.analytics.delivery.settlement import DeadLetterPublisher
from services.analytics.delivery.sources.buckets import BucketsSource
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.mirror import MirrorSource
from services.analytics.delivery.sources.persons import PersonsSource
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.streams import Streams
from services.analytics.destinations.default_destination import DefaultDestination
from services.analytics.destinations.model import Destination
from services.analytics.destinations.store import DestinationStore
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0
CONNECTED_POLL_SECONDS = 0.2


class DeliveryRunner:
    """The senders of one replica."""

    def __init__(
        self,
        *,
        streams: Streams,
        capture: CaptureApi,
        dead_letters: DeadLetterPublisher,
        project_key: ProjectKey,
        store: DestinationStore,
        settings: AnalyticsSettings,
    ) -> None:
        self._streams = streams
        self._capture = capture
        self._dead_letters = dead_letters
        self._project_key = project_key
        self._store = store
        self._settings = settings
        self._policy = RetryPolicy.of(settings)

    async def run(self) -> None:
        """Send until cancelled."""
        # Subscribing before the first connection would use an inbox this user may not read.
        while not self._streams.connected:  # noqa: ASYNC110  nats-py has no event for it
            await asyncio.sleep(CONNECTED_POLL_SECONDS)
        work = [
            *(self._keep_sending(source) for source in self._sources()),
            self._destination_senders().run(),
            self._drop_mirror_if_off(),
        ]
        tasks = [asyncio.create_task(part) for part in work]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_all(*tasks)

    def _sources(self) -> list[Source]:
        sources: list[Source] = [
            PersonsSource(self._project_key),
            BucketsSource(self._project_key),
        ]
        settings = self._settings
        if settings.analytics_event_mirror:
            allow, deny = (
                settings.analytics_event_mirror_allow,
                settings.analytics_event_mirror_deny,
            )
            sources.append(MirrorSource(self._project_key, allow, deny))
        return sources

    def _destination_senders(self) -> DestinationSenders:
        enabled = self._settings.enable_posthog_destination

        def source_of(destination: Destination) -> DestinationSource:
            return DestinationSource(
                destination, self._project_key, self._store, default_enabled=enabled
            )

        default = DefaultDestination(self._store, self._project_key, enabled=enabled)
        return DestinationSenders(
            self._store,
            DestinationConsumers(self._streams),
            default,
            source_of,
            self._keep_sending,
        )

    async def _keep_sending(self, source: Source) -> None:
        while True:
            sender = Sender(
                source,
                self._streams.consumer(source.subscription),
                self._capture,
                self._dead_letters,
                self._policy,
            )
            try:
                await sender.run()
            except Exception as error:
                # A defect. What was in memory was given back, and the next sender reads it again.
                FAILURES.labels("sender", type(error).__name__).inc()
                log.exception("sender failed, starts again", source=source.name)
            await asyncio.sleep(RESTART_SECONDS)

    async def _drop_mirror_if_off(self) -> None:
        """Delete the mirror's consumer, or the next one would begin with events of the pause."""
        if self._settings.analytics_event_mirror:
            return
        try:
            mirror = MirrorSource.subscription
            await self._streams.delete_consumer(mirror.stream, mirror.durable)
        except Unavailable as error:
            FAILURES.labels("mirror", error.code).inc()
            log.warning("consumer of the mirror not deleted", reason=str(error))
