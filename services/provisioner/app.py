"""Builds the provisioner from its settings."""

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
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from hogsend.service.heartbeat import touch_periodically
from hogsend.service.http import http_client
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    PublicUrlSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import Work
from hogsend.transport.connection import Connection
from services.provisioner.backfill.backfills import Backfills
from services.provisioner.backfill.posthog_events import PostHogEvents
from services.provisioner.backfill.runner import BackfillRunner
from services.provisioner.backfill.store import BackfillStore
from services.provisioner.credentials import Credentials
from services.provisioner.destination.provisioning import Instance, Provisioning
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.store import DestinationStore
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.diagnosis.diagnostics import Diagnostics
from services.provisioner.granted_projects import ProjectNames
from services.provisioner.handlers import router
from services.provisioner.settings import ProvisionerSettings

MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True)
class Parts:
    """The parts of the service."""

    database: Database
    watcher: CredentialWatcher
    credentials: Credentials
    provisioning: Provisioning
    diagnostics: Diagnostics
    backfills: Backfills
    backfill_runner: BackfillRunner
    project_names: ProjectNames


def build_parts(
    link: Connection,
    database: Database,
    http: httpx.AsyncClient,
    *,
    posthog: PostHogSettings,
    public: PublicUrlSettings,
    settings: ProvisionerSettings,
) -> Parts:
    """Build the parts on a connection, a database and an HTTP client.

    Args:
        link: connection to the credentials and ingest services.
        database: the database of the provisioned destinations, the backfills and their locks.
        http: client for PostHog and other Hogsend instances; it follows no redirect.
        posthog: the PostHog to provision.
        public: the URL that PostHog delivers to.
        settings: settings of this service.
    """
    secret = posthog.posthog_webhook_secret
    instance = Instance(posthog.private_host, posthog.posthog_project_id, public.api_public_url)
    watcher = CredentialWatcher(POSTHOG)
    credentials, store = Credentials(link, watcher), DestinationStore(database)
    secrets = WebhookSecrets(
        credentials,
        secret.get_secret_value() if secret else None,
        minting=settings.posthog_mint_webhook_secret,
    )
    key = posthog.posthog_signing_secret
    signing = SigningSecrets(
        credentials,
        key.get_secret_value() if key else None,
        minting=settings.posthog_mint_webhook_secret,
    )
    events, backfill_store = PostHogEvents(instance, credentials, http), BackfillStore(database)
    backfill_runner = BackfillRunner(backfill_store, events, link)
    return Parts(
        database=database,
        watcher=watcher,
        credentials=credentials,
        provisioning=Provisioning(instance, credentials, secrets, store, http, signing=signing),
        diagnostics=Diagnostics(instance, credentials, secrets, store, http, signing=signing),
        backfills=Backfills(backfill_store, events, backfill_runner.wake),
        backfill_runner=backfill_runner,
        project_names=ProjectNames(instance, credentials, http),
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
        limits: limits of the streams.
    """
    broker.provide(
        parts.provisioning,
        parts.diagnostics,
        parts.backfills,
        parts.project_names,
        parts.watcher,
        HealthReporter("provisioner", parts.database, lambda: parts.credentials.version),
    )
    broker.include(router)
    broker.link.on_reconnect(parts.watcher.reconnected)
    return service_app(
        broker,
        database=parts.database,
        background=[parts.watcher.revalidate, parts.backfill_runner.run, *background],
        limits=limits,
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    observed, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    posthog, public, outbound = PostHogSettings(), PublicUrlSettings(), OutboundSettings()
    egress = EgressPolicy.of(
        outbound.outbound_allow,
        *(posthog.posthog_host, posthog.posthog_private_host, public.api_public_url),
    )
    async with (
        telemetry.reporting(User.PROVISIONER, observed),
        http_client(egress, proxies=outbound.proxies) as http,
    ):
        broker = service_broker(User.PROVISIONER, nats)
        parts = build_parts(
            broker.link,
            Database.of(postgres, "provisioner", MIGRATIONS),
            http,
            posthog=posthog,
            public=public,
            settings=ProvisionerSettings(),
        )
        background: list[Work] = [partial(touch_periodically, observed.health_file)]
        await create_app(broker, parts, background=background, limits=nats.stream_limits).run()
