"""Builds the analytics service from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from hogsend.contract.users import User
from hogsend.posthog.capture import Capture
from hogsend.service import logs, metrics
from hogsend.service.database import Database
from hogsend.service.heartbeat import touch_forever
from hogsend.service.http import http_client
from hogsend.service.serving import run_service, service_bus
from hogsend.service.settings import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.token_cache import TokenCache
from hogsend.transport.connection import Connection
from services.analytics.capabilities import CapabilityReport
from services.analytics.conditions.evaluation import Conditions
from services.analytics.delivery.dead_letters import DeadLetters
from services.analytics.delivery.destination_consumers import DestinationConsumers
from services.analytics.delivery.jetstream import JetStreams
from services.analytics.delivery.leader_election import lead_forever
from services.analytics.delivery.runner import DeliveryRunner
from services.analytics.destinations.service import DestinationService
from services.analytics.destinations.store import DestinationStore
from services.analytics.flags.reader import FlagReader
from services.analytics.handlers import Handlers
from services.analytics.persons.contacts import Contacts
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.reader import PersonReader
from services.analytics.persons.timezones import Timezones
from services.analytics.project_key import PROVIDER, ProjectKey
from services.analytics.settings import AnalyticsSettings

MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True)
class Analytics:
    """The service's parts."""

    bus: Connection
    tokens: TokenCache
    project_key: ProjectKey
    private_host: PrivateHost
    persons: PersonReader
    store: DestinationStore
    delivery: DeliveryRunner
    handlers: Handlers

    async def follow(self) -> None:
        """Subscribe to credential changes; the bus must be connected."""
        await self.tokens.subscribe()
        await self.project_key.follow()
        await self.private_host.follow()
        await self.persons.follow(self.bus)


def build(
    bus: Connection,
    database: Database,
    http: httpx.AsyncClient,
    outbound: EgressPolicy,
    *,
    posthog: PostHogSettings,
    settings: AnalyticsSettings,
) -> Analytics:
    """Put the service together."""
    jetstream = JetStreams(bus)
    tokens, project_key = TokenCache(bus, PROVIDER), ProjectKey(bus, posthog)
    store = DestinationStore(database)
    private_host, contacts = PrivateHost(bus, posthog), Contacts(bus)
    persons = PersonReader(tokens, private_host, http, posthog.posthog_project_id)
    capture = Capture(http, seconds=settings.outbound_webhook_timeout_ms / 1000)
    report = CapabilityReport(
        tokens, project_key, store, destination_enabled=settings.enable_posthog_destination
    )
    return Analytics(
        bus=bus,
        tokens=tokens,
        project_key=project_key,
        private_host=private_host,
        persons=persons,
        store=store,
        delivery=DeliveryRunner(
            streams=jetstream,
            capture=capture,
            dead_letters=DeadLetters(bus),
            project_key=project_key,
            store=store,
            settings=settings,
        ),
        handlers=Handlers(
            persons=persons,
            timezones=Timezones(persons, contacts, settings.default_timezone),
            conditions=Conditions(persons, contacts),
            flags=FlagReader(bus, project_key, http),
            destinations=DestinationService(bus, DestinationConsumers(jetstream), store, outbound),
            report=report,
            tokens=tokens,
            database=database,
        ),
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    settings, posthog = AnalyticsSettings(), PostHogSettings()
    logs.configure("analytics", telemetry)
    metrics.serve(telemetry.metrics_host, telemetry.metrics_port)

    database = Database.of(postgres, "analytics", MIGRATIONS)
    bus = service_bus(User.ANALYTICS, nats)
    outbound = EgressPolicy.of(
        OutboundSettings().outbound_allow,
        *(posthog.posthog_host, posthog.posthog_private_host),
    )
    async with http_client(outbound) as http:
        analytics = build(bus, database, http, outbound, posthog=posthog, settings=settings)
        await run_service(
            bus,
            User.ANALYTICS,
            handlers=analytics.handlers.all(),
            background=[
                touch_forever(telemetry.health_file),
                database.keep_connected(),
                lead_forever(database, analytics.delivery.run),
                analytics.persons.say_once_when_off(),
            ],
            connected=analytics.follow,
            limits=nats.stream_limits,
        )
    await database.close()
