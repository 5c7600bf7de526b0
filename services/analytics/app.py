"""Builds the analytics service from its settings."""

from __future__ import annotations

from pathlib import Path

from hogsend import logs, metrics
from hogsend.channels import User
from hogsend.database import Database
from hogsend.serving import run_service, service_bus
from hogsend.settings import BusSettings, DatabaseSettings, TelemetrySettings
from hogsend.token_cache import TokenCache
from services.analytics.handlers import Handlers
from services.analytics.project_key import PROVIDER

MIGRATIONS = Path(__file__).with_name("migrations")


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    logs.configure("analytics", telemetry)
    metrics.serve(telemetry.metrics_port)

    database = Database.of(postgres, "analytics", MIGRATIONS)
    bus = service_bus(User.ANALYTICS, nats)
    tokens = TokenCache(bus, PROVIDER)
    handlers = Handlers(tokens, database)
    await run_service(
        bus,
        User.ANALYTICS,
        handlers=handlers.all(),
        background=[database.connect_forever()],
        connected=tokens.subscribe,
        replicas=nats.nats_replicas,
    )
    await database.close()
