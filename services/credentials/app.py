"""Builds the credentials service from its settings."""

from __future__ import annotations

from pathlib import Path

from hogsend import logs, metrics
from hogsend.channels import User
from hogsend.database import Database
from hogsend.sealing import Sealer
from hogsend.serving import run_service, service_bus
from hogsend.settings import (
    BusSettings,
    DatabaseSettings,
    PostHogSettings,
    SealingSettings,
    TelemetrySettings,
)
from services.credentials.announcer import Announcer
from services.credentials.handlers import Handlers
from services.credentials.store import CredentialStore
from services.credentials.vault import Vault

MIGRATIONS = Path(__file__).with_name("migrations")


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    sealing, posthog = SealingSettings(), PostHogSettings()
    logs.configure("credentials", telemetry)
    metrics.serve(telemetry.metrics_port)

    database = Database.of(postgres, "credentials", MIGRATIONS)
    store = CredentialStore(database)
    personal_key = posthog.posthog_personal_api_key
    vault = Vault(
        store,
        Sealer(sealing.better_auth_secret.get_secret_value()),
        personal_key.get_secret_value() if personal_key else None,
    )
    bus = service_bus(User.CREDENTIALS, nats)
    announcer = Announcer(store, vault, bus)
    await run_service(
        bus,
        User.CREDENTIALS,
        handlers=Handlers(vault, announcer, database).all(),
        background=[database.connect_forever(), announcer.catch_up_forever()],
        replicas=nats.nats_replicas,
    )
    await database.close()
