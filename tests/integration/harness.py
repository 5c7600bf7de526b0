"""Hogsend's services inside the test process, with the real NATS and PostgreSQL of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from nats.aio.msg import Msg

from hogsend.client.client import Client
from hogsend.contract.consumers import CONSUMER_REQUESTS, CONSUMER_REQUESTS_USER
from hogsend.contract.discovery import ping_subject
from hogsend.contract.users import User
from hogsend.service.app import service_app, started
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.http import http_client
from hogsend.service.router import ServiceRouter
from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from hogsend.service.ssrf import EgressPolicy
from hogsend.transport.connection import Connection
from services.analytics.app import MIGRATIONS as ANALYTICS_MIGRATIONS
from services.analytics.app import create_app as create_analytics
from services.analytics.settings import AnalyticsSettings
from services.credentials.app import MIGRATIONS, Parts
from services.credentials.app import build_parts as build_credentials
from services.credentials.app import create_app as create_credentials
from services.credentials.refresh import Clock, utc_now
from services.credentials.sealing import Sealer
from services.gateway.api import build, with_middleware
from services.gateway.handlers import router as gateway_router
from services.gateway.parts import build_parts
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.spool.spool import Spool
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.ingest.consumer_api.requests import ConsumerRequests
from services.ingest.handlers import consumers as make_consumer
from services.provisioner.app import MIGRATIONS as PROVISIONER_MIGRATIONS
from services.provisioner.app import Parts as ProvisionerParts
from services.provisioner.app import build_parts as build_provisioner
from services.provisioner.app import create_app as create_provisioner
from services.provisioner.settings import ProvisionerSettings
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

ADMIN_KEY = "k-admin"
READ_KEY = "k-read"
SEALING_SECRET = "test-secret"


@asynccontextmanager
async def connected(servers: Servers, user: User) -> AsyncIterator[Connection]:
    """Connect to NATS as a user, for the block."""
    bus = Connection(user, servers.nats_url(user))
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def serving(
    servers: Servers, user: User, router: ServiceRouter, *instances: object
) -> AsyncIterator[ServiceBroker]:
    """Serve the endpoints and consumers of a router as a user, with `instances` injected."""
    broker = ServiceBroker(user, Connection(user, servers.nats_url(user)))
    broker.provide(*instances)
    broker.include(router)
    async with started(service_app(broker)):
        yield broker


@asynccontextmanager
async def received_pings(servers: Servers, service: User) -> AsyncIterator[list[Msg]]:
    """Yield the pings that a service has received so far."""
    pings = list[Msg]()

    async def receive(message: Msg) -> None:
        pings.append(message)

    async with connected(servers, service) as bus:
        await bus.client.subscribe(ping_subject(service), cb=receive)
        await bus.flush()
        yield pings


@asynccontextmanager
async def client(servers: Servers, user: User) -> AsyncIterator[Client]:
    """Connect as a user with the client that other people's services use."""
    async with connected(servers, user) as connection:
        yield Client(connection)


@asynccontextmanager
async def consumer_api(servers: Servers) -> AsyncIterator[None]:
    """Run the part of ingest that creates consumers for other people's services."""
    link = Connection(User.INGEST, servers.nats_url(User.INGEST))
    broker, router = ServiceBroker(User.INGEST, link), ServiceRouter()
    router.raw_requests(f"{CONSUMER_REQUESTS}.>", queue=CONSUMER_REQUESTS_USER)(make_consumer)
    broker.provide(ConsumerRequests(link))
    broker.include(router)
    async with started(service_app(broker)):
        yield


Credentials: TypeAlias = Parts
"""The objects inside a running credentials service."""


@asynccontextmanager
async def credentials_service(
    servers: Servers,
    database_url: str,
    *,
    secret: str = SEALING_SECRET,
    previous: Sequence[str] = (),
    personal_key: str | None = None,
    now: Clock = utc_now,
) -> AsyncIterator[Credentials]:
    """Run the credentials service; it refreshes a credential only on request."""
    database = Database(database_url, "credentials", MIGRATIONS, pool_size=4)
    await database.connect()
    link = Connection(User.CREDENTIALS, servers.nats_url(User.CREDENTIALS))
    async with http_client(LOOPBACK) as http:
        parts = build_credentials(
            link,
            database,
            http,
            Sealer(secret, previous),
            LOOPBACK,
            personal_key=personal_key,
            now=now,
        )
        async with started(create_credentials(ServiceBroker(User.CREDENTIALS, link), parts)):
            yield parts


LOOPBACK = EgressPolicy.of(("127.0.0.0/8", "::1", "localhost"))


class Unreachable(httpx.AsyncBaseTransport):
    """Transport for hosts other than this machine, which tests never connect to."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Fail like a connection to an unreachable host."""
        raise httpx.ConnectError(f"no route to {request.url.host}")


Provisioner: TypeAlias = ProvisionerParts
"""The objects inside a running provisioner."""


@asynccontextmanager
async def provisioner_service(
    servers: Servers,
    database_url: str,
    *,
    posthog: dict[str, Any],
    settings: dict[str, Any] | None = None,
    public_url: str = "https://t.example.com",
    instances: dict[str, Any] | None = None,
) -> AsyncIterator[Provisioner]:
    """Run the provisioner.

    It can connect to this machine and, by host name, to the ASGI apps in `instances`.
    """
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        "all://": Unreachable(),
        "all://127.0.0.1": httpx.AsyncHTTPTransport(),
    }
    for host, app in (instances or {}).items():
        mounts[f"all://{host}"] = httpx.ASGITransport(app)
    link = Connection(User.PROVISIONER, servers.nats_url(User.PROVISIONER))
    database = Database(database_url, "provisioner", PROVISIONER_MIGRATIONS, pool_size=4)
    await database.connect()
    async with http_client(LOOPBACK, mounts) as http:
        parts = build_provisioner(
            link,
            database,
            http,
            posthog=PostHogSettings(**posthog),
            public=PublicUrlSettings(api_public_url=public_url),
            settings=ProvisionerSettings(**(settings or {})),
        )
        async with started(create_provisioner(ServiceBroker(User.PROVISIONER, link), parts)):
            yield parts


@dataclass
class AnalyticsReplica:
    """A running analytics service: its broker and its database."""

    broker: ServiceBroker
    database: Database


@asynccontextmanager
async def analytics_service(
    servers: Servers,
    database_url: str,
    *,
    posthog: dict[str, Any],
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[AnalyticsReplica]:
    """Run the analytics service; it starts to send as soon as it is the leader."""
    link = Connection(User.ANALYTICS, servers.nats_url(User.ANALYTICS))
    async with http_client(LOOPBACK) as http:
        database = Database(database_url, "analytics", ANALYTICS_MIGRATIONS, pool_size=4)
        await database.connect()
        broker = ServiceBroker(User.ANALYTICS, link)
        app = create_analytics(
            broker,
            database,
            http,
            LOOPBACK,
            posthog=PostHogSettings(**posthog),
            settings=AnalyticsSettings(**(settings or {})),
        )
        async with started(app):
            yield AnalyticsReplica(broker, database)


@dataclass
class Gateway:
    """A running gateway, and the objects inside it."""

    http: httpx.AsyncClient
    app: Any
    bus: Connection
    queue: WebhookQueue
    secret: WebhookSecret
    spool: Spool | None


@asynccontextmanager
async def gateway_service(
    servers: Servers,
    directory: Path,
    *,
    posthog: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    public_url: str = "https://t.example.com",
    wait_for_secret: bool = True,
) -> AsyncIterator[Gateway]:
    """Run the gateway with the settings of the specification's cases; it spools in `directory`."""
    environment = GatewaySettings(
        **{
            "admin_api_key": ADMIN_KEY,
            "admin_read_api_key": READ_KEY,
            "admin_rate_limit": 10_000,
            **(settings or {}),
        }
    )
    configured = PostHogSettings(
        **{
            "posthog_api_key": "phc_test",
            "posthog_host": "https://eu.i.posthog.com",
            **(posthog or {}),
        }
    )
    public = PublicUrlSettings(api_public_url=public_url)
    environment = environment.model_copy(
        update={"spool_dir": directory, "webhook_ack_timeout_ms": int(PATIENCE_SECONDS * 1000)}
    )
    broker = ServiceBroker(User.GATEWAY, Connection(User.GATEWAY, servers.nats_url(User.GATEWAY)))
    parts = build_parts(broker.link, environment, configured)
    broker.provide(parts.watcher)
    broker.include(gateway_router)
    broker.link.on_reconnect(parts.watcher.reconnected)
    routes = build(parts, public)
    app = with_middleware(routes, broker.link, environment)
    process = service_app(broker, background=[parts.watcher.revalidate, parts.queue.drain_forever])
    try:
        async with started(process):
            if wait_for_secret:
                await eventually(lambda: parts.webhook_secret.can_check)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                yield Gateway(
                    http, app, broker.link, parts.queue, parts.webhook_secret, parts.spool
                )
    finally:
        if parts.spool is not None:
            await parts.spool.close()


def admin(key: str = ADMIN_KEY) -> dict[str, str]:
    """Return HTTP headers with an admin key."""
    return {"Authorization": f"Bearer {key}"}
