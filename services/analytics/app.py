"""Builds the analytics service from its settings."""

from __future__ import annotations

from pathlib import Path

from hogsend import logs, metrics
from hogsend.channels import User
from hogsend.database import Database
from hogsend.posthog.api import http_client
from hogsend.posthog.capture import Capture
from hogsend.serving import run_service, service_bus
from hogsend.settings import (
    AnalyticsSettings,
    BusSettings,
    DatabaseSettings,
    PostHogSettings,
    TelemetrySettings,
)
from hogsend.token_cache import TokenCache
from services.analytics.capabilities import CapabilityReport
from services.analytics.delivery.flows import Flows
from services.analytics.delivery.leadership import lead_forever
from services.analytics.destinations.store import DestinationStore
from services.analytics.handlers import Handlers
from services.analytics.project_key import PROVIDER, ProjectKey

MIGRATIONS = Path(__file__).with_name("migrations")


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    settings, posthog = AnalyticsSettings(), PostHogSettings()
    logs.configure("analytics", telemetry)
    metrics.serve(telemetry.metrics_port)

    database = Database.of(postgres, "analytics", MIGRATIONS)
    bus = service_bus(User.ANALYTICS, nats)
    async with http_client() as http:
        tokens, project_key = TokenCache(bus, PROVIDER), ProjectKey(bus, posthog)
        store = DestinationStore(database)
        capture = Capture(http, seconds=settings.outbound_webhook_timeout_ms / 1000)
        flows = Flows(bus, capture, project_key, store, settings)
        report = CapabilityReport(
            tokens, project_key, store, destination_enabled=settings.enable_posthog_destination
        )
        handlers = Handlers(tokens, report, database)

        async def connected() -> None:
            await tokens.subscribe()
            await project_key.follow()

        await run_service(
            bus,
            User.ANALYTICS,
            handlers=handlers.all(),
            background=[database.connect_forever(), lead_forever(database, flows.run)],
            connected=connected,
            replicas=nats.nats_replicas,
        )
    await database.close()
