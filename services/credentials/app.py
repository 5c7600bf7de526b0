"""Builds the credentials service from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from faststream import FastStream

from hogsend.contract.credentials import POSTHOG
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User
from hogsend.service import telemetry
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker, service_broker
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from hogsend.service.heartbeat import touch_periodically
from hogsend.service.http import http_client
from hogsend.service.retry import repeat_every
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import Work
from hogsend.transport.connection import Connection
from services.credentials import metrics
from services.credentials.authorization.authorizations import Authorizations
from services.credentials.authorization.server import AuthorizationServer
from services.credentials.authorization.store import AuthorizationStore
from services.credentials.change_relay import RELAY_SECONDS, ChangeRelay
from services.credentials.change_stream import JetStreamChanges
from services.credentials.credential_service import CredentialService
from services.credentials.handlers import router
from services.credentials.key_rotation import ROTATE_SECONDS, KeyRotation
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.refresh import Clock, Refresher, utc_now
from services.credentials.sealing import Sealer
from services.credentials.settings import SealingSettings
from services.credentials.store import CredentialStore
from services.credentials.token_endpoint import TokenEndpoint
from services.credentials.token_resolver import TokenResolver

MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True)
class Parts:
    """The parts of the service."""

    database: Database
    store: CredentialStore
    sealer: PayloadSealer
    relay: ChangeRelay
    credentials: CredentialService
    authorizations: Authorizations
    refresher: Refresher
    resolver: TokenResolver
    rotation: KeyRotation


def build_parts(
    link: Connection,
    database: Database,
    http: httpx.AsyncClient,
    sealer: Sealer,
    egress: EgressPolicy,
    *,
    personal_key: str | None,
    now: Clock = utc_now,
) -> Parts:
    """Build the parts on a connection, a database and an HTTP client.

    Args:
        link: the connection that changes are published on.
        database: the database of the sealed rows.
        http: client for PostHog's OAuth server; it follows no redirect.
        sealer: seals and unseals the rows.
        egress: the hosts at which a grant may be refreshed.
        personal_key: `POSTHOG_PERSONAL_API_KEY`, the bearer while there is no usable grant.
        now: the clock.
    """
    store, payloads = CredentialStore(database), PayloadSealer(sealer)
    relay = ChangeRelay(store, payloads, JetStreamChanges(link))
    refresher = Refresher(store, payloads, TokenEndpoint(http), relay, now)
    credentials = CredentialService(
        store, payloads, relay, egress, personal_key=personal_key is not None
    )
    return Parts(
        database=database,
        store=store,
        sealer=payloads,
        relay=relay,
        credentials=credentials,
        authorizations=Authorizations(
            AuthorizationStore(database),
            sealer,
            AuthorizationServer(http, egress),
            credentials,
            now,
        ),
        refresher=refresher,
        resolver=TokenResolver(store, payloads, refresher, personal_key, now),
        rotation=KeyRotation(store, sealer),
    )


def create_app(
    broker: ServiceBroker,
    parts: Parts,
    *,
    background: Sequence[Work] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> FastStream:
    """Create the application; `await app.run()` runs it until SIGTERM or SIGINT.

    Args:
        broker: the broker, not connected yet.
        parts: the parts of the service.
        background: tasks that run while the service does.
        limits: limits of the stream of credential changes.
    """
    broker.provide(
        parts.credentials,
        parts.authorizations,
        parts.resolver,
        HealthReporter(User.CREDENTIALS, parts.database),
    )
    broker.include(router)
    return service_app(
        broker,
        database=parts.database,
        background=background,
        closing=[parts.refresher.finish, parts.relay.finish],
        limits=limits,
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    observed, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    sealing, posthog, outbound = SealingSettings(), PostHogSettings(), OutboundSettings()
    egress = EgressPolicy.of(
        outbound.outbound_allow, posthog.posthog_host, posthog.posthog_private_host
    )
    previous_secrets = [old.get_secret_value() for old in sealing.better_auth_secret_previous]
    personal_key = posthog.posthog_personal_api_key
    async with (
        telemetry.reporting(User.CREDENTIALS, observed),
        http_client(egress, proxies=outbound.proxies) as http,
    ):
        broker = service_broker(User.CREDENTIALS, nats)
        parts = build_parts(
            broker.link,
            Database.of(postgres, "credentials", MIGRATIONS),
            http,
            Sealer(sealing.better_auth_secret.get_secret_value(), previous_secrets),
            egress,
            personal_key=personal_key.get_secret_value() if personal_key else None,
        )
        background: list[Work] = [
            partial(touch_periodically, observed.health_file),
            partial(repeat_every, RELAY_SECONDS, parts.relay.relay_pending),
            parts.refresher.keep_fresh,
            partial(
                repeat_every,
                metrics.MEASURE_SECONDS,
                metrics.CredentialGauges(parts.store, parts.sealer, POSTHOG).measure,
            ),
        ]
        if previous_secrets:
            background.append(partial(repeat_every, ROTATE_SECONDS, parts.rotation.rotate))
        await create_app(broker, parts, background=background, limits=nats.stream_limits).run()
