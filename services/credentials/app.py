"""Builds the credentials service from its settings."""

from __future__ import annotations

from pathlib import Path

from hogsend.contract.users import User
from hogsend.service import logs, metrics
from hogsend.service.database import Database
from hogsend.service.heartbeat import touch_forever
from hogsend.service.http import http_client
from hogsend.service.retry import repeat_every
from hogsend.service.serving import run_service, service_bus
from hogsend.service.settings import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from services.credentials.change_relay import RELAY_SECONDS, ChangeRelay
from services.credentials.change_stream import JetStreamChanges
from services.credentials.credential_service import CredentialService
from services.credentials.handlers import Handlers
from services.credentials.key_rotation import ROTATE_SECONDS, KeyRotation
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.refresh import Refresher
from services.credentials.sealing import Sealer
from services.credentials.settings import SealingSettings
from services.credentials.store import CredentialStore
from services.credentials.token_endpoint import TokenEndpoint
from services.credentials.token_resolver import TokenResolver

MIGRATIONS = Path(__file__).with_name("migrations")


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    sealing, posthog = SealingSettings(), PostHogSettings()
    logs.configure("credentials", telemetry)
    metrics.serve(telemetry.metrics_host, telemetry.metrics_port)

    database = Database.of(postgres, "credentials", MIGRATIONS)
    store = CredentialStore(database)
    personal_key = posthog.posthog_personal_api_key
    sealer = Sealer(
        sealing.better_auth_secret.get_secret_value(),
        [secret.get_secret_value() for secret in sealing.better_auth_secret_previous],
    )
    payload_sealer = PayloadSealer(sealer)
    bus = service_bus(User.CREDENTIALS, nats)
    outbound = EgressPolicy.of(
        OutboundSettings().outbound_allow, posthog.posthog_host, posthog.posthog_private_host
    )
    credentials = CredentialService(
        store, payload_sealer, outbound, personal_key=personal_key is not None
    )
    relay = ChangeRelay(store, payload_sealer, JetStreamChanges(bus))
    async with http_client(outbound) as http:
        refresher = Refresher(store, payload_sealer, TokenEndpoint(http), relay)
        tokens = TokenResolver(
            store,
            payload_sealer,
            refresher,
            personal_key.get_secret_value() if personal_key else None,
        )
        background = [
            touch_forever(telemetry.health_file),
            database.keep_connected(),
            repeat_every(RELAY_SECONDS, relay.relay_pending),
            refresher.keep_fresh(),
        ]
        if sealing.better_auth_secret_previous:
            background.append(repeat_every(ROTATE_SECONDS, KeyRotation(store, sealer).rotate))
        await run_service(
            bus,
            User.CREDENTIALS,
            handlers=Handlers(credentials, tokens, relay, database).all(),
            background=background,
            limits=nats.stream_limits,
        )
        await refresher.finish()
    await database.close()
