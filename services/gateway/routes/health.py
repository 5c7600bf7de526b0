"""Health: for the upstream doctor (contract 8.6), for orchestrators, and for Prometheus."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hogsend import __version__
from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.contract.errors import HogsendError
from hogsend.contract.health import (
    ANALYTICS_HEALTH,
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    ServiceHealth,
)
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_or_reader
from services.gateway.error_responses import documented
from services.gateway.webhooks.secret import PROVIDER, WebhookSecret
from services.gateway.webhooks.webhook_queue import WebhookQueue

PROBE_SECONDS = 1.5
ACTIVITY_HOURS = 24

UpOrDown = Literal["up", "down"]
Status = Literal["healthy", "degraded", "migration_pending"]
_STARTED = time.monotonic()
_PROBES: tuple[Endpoint[Empty, ServiceHealth], ...] = (
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    ANALYTICS_HEALTH,
)


class ComponentHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One dependency."""

    status: UpOrDown
    latency_ms: float | None = None


class WorkerHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Whoever turns webhooks into events: the ingest service."""

    status: UpOrDown
    last_seen_at: datetime | None = None


class HealthComponents(msgspec.Struct, frozen=True):
    """Dependencies by the names the upstream doctor looks for, and by their own."""

    database: ComponentHealth
    redis: ComponentHealth
    """The bus once more: there is no Redis here, but the upstream doctor insists on this key."""
    worker: WorkerHealth
    bus: ComponentHealth


class MigrationTrack(msgspec.Struct, frozen=True, rename="camel"):
    """Migrations of one track."""

    applied: str | None
    required: str | None
    in_sync: bool
    pending: list[str]


class MigrationTracks(msgspec.Struct, frozen=True):
    """Hogsend's own migrations, and those of a client application, of which there are none."""

    engine: MigrationTrack
    client: MigrationTrack


class UncountedActivity(msgspec.Struct, frozen=True):
    """Counts the upstream knows and this product does not keep."""

    failed: int | None = None


class JourneyActivity(UncountedActivity, frozen=True):
    """Journeys are not part of this product."""

    completed: int | None = None


class EmailActivity(UncountedActivity, frozen=True):
    """Emails are not part of this product."""

    sent: int | None = None


class RecentActivity(msgspec.Struct, frozen=True, rename="camel"):
    """What happened lately."""

    window_hours: int = ACTIVITY_HOURS
    journeys: JourneyActivity = JourneyActivity()
    emails: EmailActivity = EmailActivity()


class ServiceHealthBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One of our services, as seen over the bus."""

    status: UpOrDown
    latency_ms: float | None = None
    uptime: float | None = None
    database: UpOrDown | None = None
    credential_version: int | None = None
    """Version of PostHog's credential it works with, if it works with one."""
    waits_for: str | None = None
    """What it cannot go on without; it is down until that is back."""


class CredentialHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A provider's stored credential: whether it works, nothing of what it is."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    version: int | None = None


class Health(msgspec.Struct, frozen=True):
    """Always answered with 200: `status` tells."""

    status: Status
    uptime: float
    timestamp: datetime
    version: str
    components: HealthComponents
    schema: MigrationTracks
    activity: RecentActivity
    services: dict[str, ServiceHealthBody]
    credentials: dict[str, CredentialHealth]


class Liveness(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether webhooks can be accepted, and why not."""

    ready: bool
    bus: UpOrDown
    webhook_secret: Literal["known", "unknown"]
    spooled: int
    """Webhooks waiting on disk for the bus."""


@get(
    "/v1/health",
    operation_id="getHealth",
    summary="Report every component and service",
    tags=["Health"],
)
async def health(
    bus: NamedDependency[Connection],
    queue: NamedDependency[WebhookQueue],
    webhook_secret: NamedDependency[WebhookSecret],
) -> Health:
    """Report every component and service; each is asked for at most 1.5 seconds.

    The bus counts as down too while JetStream does not take webhooks and they are spooled, and the
    worker while it waits for PostgreSQL or JetStream.
    """
    credential, probes = await asyncio.gather(
        _credential(bus), asyncio.gather(*(_probe(bus, endpoint) for endpoint in _PROBES))
    )
    answers = {service: answer for service, answer, _ in probes}
    uptime = round(time.monotonic() - _STARTED, 1)
    services = {
        "gateway": ServiceHealthBody(
            "up", uptime=uptime, credential_version=webhook_secret.version
        ),
        **{service: _service(answer, latency) for service, answer, latency in probes},
    }
    bus_latency = await _bus_latency(bus)
    takes_webhooks = bus_latency is not None and not queue.spooling
    bus_component = ComponentHealth("up" if takes_webhooks else "down", bus_latency)
    database = _database(list(answers.values()))
    engine = _engine(answers)
    status: Status
    if engine.pending:
        status = "migration_pending"
    elif "down" in {database.status, bus_component.status, *(s.status for s in services.values())}:
        status = "degraded"
    else:
        status = "healthy"
    now = datetime.now(UTC)
    last_seen = now if answers[User.INGEST] is not None else None
    return Health(
        status=status,
        uptime=uptime,
        timestamp=now,
        version=__version__,
        components=HealthComponents(
            database=database,
            redis=bus_component,
            worker=WorkerHealth(services[User.INGEST].status, last_seen),
            bus=bus_component,
        ),
        schema=MigrationTracks(
            engine, MigrationTrack(applied=None, required=None, in_sync=True, pending=[])
        ),
        activity=RecentActivity(),
        services=services,
        credentials={PROVIDER: credential},
    )


@get(
    "/livez",
    operation_id="getLiveness",
    summary="Tell that the process answers",
    tags=["Health"],
)
async def livez() -> Liveness:
    """Answer as long as the process does."""
    return Liveness()


@get(
    "/readyz",
    operation_id="getReadiness",
    summary="Tell whether webhooks are accepted",
    tags=["Health"],
    responses={503: ResponseSpec(Readiness, description="Webhooks would be refused.")},
)
async def readyz(
    bus: NamedDependency[Connection],
    queue: NamedDependency[WebhookQueue],
    webhook_secret: NamedDependency[WebhookSecret],
) -> Response[Readiness]:
    """Tell whether a webhook would be accepted now; a bus that is away is bridged by the spool."""
    ready = queue.can_accept and webhook_secret.known
    body = Readiness(
        ready=ready,
        bus="up" if bus.connected else "down",
        webhook_secret="known" if webhook_secret.known else "unknown",
        spooled=queue.waiting,
    )
    return Response(body, status_code=200 if ready else 503)


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Report metrics for Prometheus",
    guards=[admin_or_reader],
    media_type=MediaType.TEXT,
    security=[{"adminKey": []}],
    tags=["Health"],
    responses=documented(401, 403, 429),
)
async def metrics() -> Response[bytes]:
    """Prometheus metrics; scrape with an admin or read key as bearer."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _probe(
    bus: NamedDependency[Connection], endpoint: Endpoint[Empty, ServiceHealth]
) -> tuple[str, ServiceHealth | None, float | None]:
    started = time.perf_counter()
    try:
        answer = await bus.request(endpoint, Empty(), deadline=PROBE_SECONDS)
    except HogsendError:
        return endpoint.service, None, None
    return endpoint.service, answer, _milliseconds_since(started)


async def _credential(bus: NamedDependency[Connection]) -> CredentialHealth:
    try:
        status = await bus.request(
            CREDENTIALS_STATUS, ProviderRef(provider_id=PROVIDER), deadline=PROBE_SECONDS
        )
    except HogsendError:
        return CredentialHealth("unknown")
    return CredentialHealth(
        "needs_reconnect" if status.needs_reconnect else status.oauth, status.version
    )


async def _bus_latency(bus: NamedDependency[Connection]) -> float | None:
    if not bus.connected:
        return None
    started = time.perf_counter()
    try:
        await asyncio.wait_for(bus.client.flush(), PROBE_SECONDS)
    except Exception:  # noqa: BLE001 - whatever it is, the bus is not up
        return None
    return _milliseconds_since(started)


def _service(answer: ServiceHealth | None, latency: float | None) -> ServiceHealthBody:
    if answer is None:
        return ServiceHealthBody("down")
    return ServiceHealthBody(
        status="down" if answer.waits_for else "up",
        latency_ms=latency,
        uptime=answer.uptime,
        database=answer.database.status,
        credential_version=answer.credential_version,
        waits_for=answer.waits_for,
    )


def _database(answers: list[ServiceHealth | None]) -> ComponentHealth:
    seen = [answer.database for answer in answers if answer is not None]
    if not seen or any(database.status == "down" for database in seen):
        return ComponentHealth("down")
    return ComponentHealth("up", max(database.latency_ms or 0 for database in seen))


def _engine(answers: dict[str, ServiceHealth | None]) -> MigrationTrack:
    known = {service: answer.schema for service, answer in answers.items() if answer is not None}
    pending = [
        f"{service}/{migration}"
        for service, schema in known.items()
        for migration in schema.pending
    ]
    return MigrationTrack(
        applied=_joined({service: schema.applied for service, schema in known.items()}),
        required=_joined({service: schema.required for service, schema in known.items()}),
        in_sync=not pending,
        pending=pending,
    )


def _joined(versions: dict[str, str | None]) -> str | None:
    named = [f"{service}/{version}" for service, version in versions.items() if version]
    return " ".join(named) or None


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
