"""Sends everything to PostHog while this replica leads: one sender for each source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import StreamName
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.batch_delivery import BatchSender
from services.analytics.delivery.destination_consumers import DestinationConsumers
from services.analytics.delivery.destination_senders import DestinationSenders
from services.analytics.delivery.failing import FailingConsumers
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.sender import Sender
from services.analytics.delivery.shielded import shielded
from services.analytics.delivery.sources.built_in import built_in_sources
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.mirror import MirrorSource
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.streams import DeliveryMessage, Streams
from services.analytics.delivery.write_recorder import WriteRecorder
from services.analytics.destinations.default_destination import DefaultDestination
from services.analytics.destinations.model import Destination
from services.analytics.destinations.store import DestinationStore
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0
READY_POLL_SECONDS = 0.2
POSITIONS_SECONDS = 1.0
"""How often positions are saved. If a consumer is deleted and the process that read it dies right
then, events that were sent after the last save are sent again, under the same uuid."""
SAVE_SECONDS = 2.0
"""Longest time to save positions."""
LAG_SECONDS = 5.0
"""How often the age of the oldest event is measured."""


class DeliveryRunner:
    """Runs the senders of one replica."""

    def __init__(
        self,
        *,
        streams: Streams,
        capture: BatchSender,
        project_key: ProjectKey,
        store: DestinationStore,
        recorder: WriteRecorder,
        settings: AnalyticsSettings,
        failing: FailingConsumers | None = None,
    ) -> None:
        self._streams = streams
        self._capture = capture
        self._project_key = project_key
        self._store = store
        self._recorder = recorder
        self._settings = settings
        self._failing = failing
        self._policy = RetryPolicy(
            max_attempts=settings.outbound_webhook_max_attempts,
            base_delay=settings.outbound_webhook_base_delay_ms / 1000,
            max_delay=settings.outbound_webhook_max_delay_ms / 1000,
        )
        self._senders: dict[str, Sender] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        while not self._streams.ready:  # noqa: ASYNC110 - neither NATS nor FastStream has an event
            await asyncio.sleep(READY_POLL_SECONDS)
        if self._failing is not None:
            self._failing.forget()
        work = [
            *(
                self._keep_sending(source)
                for source in built_in_sources(self._project_key, self._settings)
            ),
            self._destination_senders().run(),
            self._drop_mirror_if_off(),
            self._save_positions_forever(),
            self._measure_lag_forever(),
        ]
        tasks = [asyncio.create_task(part) for part in work]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_all(*tasks)
            await shielded(self._save_positions())

    async def enqueue(self, messages: Sequence[DeliveryMessage]) -> None:
        """Hand messages of one consumer to its sender."""
        sender = self._senders.get(messages[0].durable)
        # Without a sender the consumer is being stopped, and naks the messages.
        if sender is not None:
            can_pull_more = sender.can_pull_more_after(messages)
            await self._recorder.record_missed(messages, can_pull_more=can_pull_more)
            await sender.enqueue(messages)

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
        consumer = self._streams.consumer(source.subscription)
        while True:
            sender = Sender(source, consumer, self._capture, self._policy, self._failing)
            self._senders[source.subscription.durable] = sender
            try:
                await sender.run()
            except Exception as error:
                # A defect. The consumer nak'ed the messages in memory, and the next sender reads
                # them again.
                FAILURES.labels("sender", type(error).__name__).inc()
                log.exception("sender failed and is restarted", source=source.name)
            finally:
                del self._senders[source.subscription.durable]
                if source.subscription.stream is StreamName.PERSONS:
                    await self._recorder.subscribe_to_captures()
            await asyncio.sleep(RESTART_SECONDS)

    async def _measure_lag_forever(self) -> None:
        while True:
            await asyncio.sleep(LAG_SECONDS)
            now = datetime.now(UTC)
            for sender in self._senders.values():
                sender.measure_lag(now)

    async def _save_positions_forever(self) -> None:
        while True:
            await asyncio.sleep(POSITIONS_SECONDS)
            await self._save_positions()

    async def _save_positions(self) -> None:
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await self._streams.save_positions()
        except (Unavailable, TimeoutError) as error:
            FAILURES.labels("positions", type(error).__name__).inc()
            log.warning("positions not saved", reason=str(error) or type(error).__name__)

    async def _drop_mirror_if_off(self) -> None:
        """Delete the mirror's consumer while the mirror is off.

        Otherwise the mirror would start with the events of the pause when it is on again.
        """
        if self._settings.analytics_event_mirror:
            return
        try:
            mirror = MirrorSource.subscription
            await self._streams.delete_consumer(mirror.stream, mirror.durable)
        except Unavailable as error:
            FAILURES.labels("mirror", error.code).inc()
            log.warning("consumer of the mirror not deleted", reason=str(error))
