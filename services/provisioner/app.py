"""Builds the provisioner from its settings."""

from __future__ import annotations

from pathlib import Path

import httpx

from hogsend.contract.users import User
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
    PublicUrlSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from hogsend.transport.connection import Connection
from services.provisioner.credentials import Credentials
from services.provisioner.destination.provisioning import Instance, Provisioning
from services.provisioner.destination.store import DestinationStore
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.diagnosis.diagnostics import Diagnostics
from services.provisioner.handlers import Handlers
from services.provisioner.settings import ProvisionerSettings

MIGRATIONS = Path(__file__).with_name("migrations")


def build(
    bus: Connection,
    database: Database,
    http: httpx.AsyncClient,
    *,
    posthog: PostHogSettings,
    public: PublicUrlSettings,
    settings: ProvisionerSettings,
) -> Handlers:
    """Compose the handlers and their dependencies."""
    configured = posthog.posthog_webhook_secret
    secret = configured.get_secret_value() if configured else None
    instance = Instance(posthog.private_host, posthog.posthog_project_id, public.api_public_url)
    credentials, store = Credentials(bus), DestinationStore(database)
    secrets = WebhookSecrets(credentials, secret, minting=settings.posthog_mint_webhook_secret)
    return Handlers(
        Provisioning(instance, credentials, secrets, store, http),
        Diagnostics(instance, credentials, secrets, store, http),
        credentials,
        database,
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    posthog, public, settings = PostHogSettings(), PublicUrlSettings(), ProvisionerSettings()
    logs.configure("provisioner", telemetry)
    metrics.serve(telemetry.metrics_host, telemetry.metrics_port)

    database = Database.of(postgres, "provisioner", MIGRATIONS)
    bus = service_bus(User.PROVISIONER, nats)
    egress = EgressPolicy.of(
        OutboundSettings().outbound_allow,
        *(posthog.posthog_host, posthog.posthog_private_host, public.api_public_url),
    )
    async with http_client(egress) as http:
        handlers = build(bus, database, http, posthog=posthog, public=public, settings=settings)
        await run_service(
            bus,
            User.PROVISIONER,
            handlers=handlers.all(),
            background=[touch_forever(telemetry.health_file), database.keep_connected()],
            connected=handlers.follow,
            limits=nats.stream_limits,
        )
    await database.close()
