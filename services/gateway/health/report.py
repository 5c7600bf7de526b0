"""Asks every service for its health and derives the health of the whole system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import structlog

from hogsend import __version__
from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, POSTHOG, ProviderRef
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
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.gateway.health.documents import (
    ComponentHealth,
    Condition,
    CredentialHealth,
    Health,
    HealthComponents,
    MigrationTrack,
    MigrationTracks,
    RecentActivity,
    ServiceHealthBody,
    Status,
    WorkerHealth,
)
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.link import Workers
from services.gateway.workers.messages import WorkerReport

log = structlog.get_logger(__name__)

PROBE_SECONDS = 1.5
"""How long a service may take to answer."""

_STARTED = time.monotonic()
_PROBES: tuple[Endpoint[Empty, ServiceHealth], ...] = (
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    ANALYTICS_HEALTH,
)

_NEEDS_OPERATOR = frozenset({"needs_reconnect", "unreadable"})
"""States of a credential that end only when an operator acts."""

_NO_MIGRATIONS = MigrationTrack(applied=None, required=None, in_sync=True, pending=[])

Answers = Mapping[str, ServiceHealth | None]
"""Reply of each service, None without one."""


class HealthReports:
    """Reports health; those who ask while it is found out share what is found.

    It is open to everybody, and every report costs a request to each service and a query of each
    database.
    """

    def __init__(
        self,
        bus: Connection,
        queue: WebhookQueue,
        webhook_secret: WebhookSecret,
        size: SizeLimit,
        workers: Workers,
    ) -> None:
        """See `report_health`."""
        self._find_out = partial(report_health, bus, queue, webhook_secret, size, workers)
        self._asking: asyncio.Task[Health] | None = None

    async def report(self) -> Health:
        """Give the report that is under way, or begin one."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._find_out())
        # Who gives up leaves it to the others.
        return await asyncio.shield(self._asking)


async def report_health(
    bus: Connection,
    queue: WebhookQueue,
    webhook_secret: WebhookSecret,
    size: SizeLimit,
    workers: Workers,
) -> Health:
    """Ask every service and worker, all at the same time, and put the answers together.

    The bus counts as down, too, while webhooks are spooled because JetStream does not take them.
    While NATS itself does not answer, services are unknown: they may well be running.
    """
    credential, probes, bus_latency, reports = await asyncio.gather(
        _credential(bus),
        asyncio.gather(*(_probe(bus, endpoint) for endpoint in _PROBES)),
        _bus_latency(bus),
        workers.reports(),
    )
    answers = {service: answer for service, answer, _ in probes}
    silent: Condition = "unknown" if bus_latency is None else "down"
    uptime = round(time.monotonic() - _STARTED, 1)
    services = {
        "gateway": _gateway(queue, webhook_secret, uptime, workers.wanted, reports),
        **{service: _service(answer, latency, silent) for service, answer, latency in probes},
    }
    spooling = any(report.spooling for report in reports)
    takes_webhooks = bus_latency is not None and not spooling
    problems = _bus_problems(answers)
    bus_health = ComponentHealth(
        "up" if takes_webhooks else "down", bus_latency, problems or None, size.bus_bytes
    )
    database = _database(answers)
    engine = _engine(answers)
    now = datetime.now(UTC)
    last_seen = now if answers[User.INGEST] is not None else None
    return Health(
        status=_status(
            engine,
            credential,
            database,
            bus_health,
            *services.values(),
            needs_operator=_set_aside(reports) > 0
            or len(reports) < workers.wanted
            or bool(problems)
            or size.bus_bytes is not None,
        ),
        uptime=uptime,
        timestamp=now,
        version=__version__,
        components=HealthComponents(
            database=database,
            redis=bus_health,
            worker=WorkerHealth(services[User.INGEST].status, last_seen),
            bus=bus_health,
        ),
        schema=MigrationTracks(engine, client=_NO_MIGRATIONS),
        activity=RecentActivity(),
        services=services,
        credentials={POSTHOG: credential},
    )


async def _probe(
    bus: Connection, endpoint: Endpoint[Empty, ServiceHealth]
) -> tuple[str, ServiceHealth | None, float | None]:
    started = time.perf_counter()
    try:
        answer = await bus.request(endpoint, Empty(), deadline=PROBE_SECONDS)
    except HogsendError as error:
        _unknown(endpoint.service, error)
        return endpoint.service, None, None
    return endpoint.service, answer, _milliseconds_since(started)


async def _credential(bus: Connection) -> CredentialHealth:
    wanted = ProviderRef(provider_id=POSTHOG)
    try:
        found = await bus.request(CREDENTIALS_STATUS, wanted, deadline=PROBE_SECONDS)
    except HogsendError as error:
        _unknown("credential", error)
        return CredentialHealth("unknown")
    return CredentialHealth(
        "needs_reconnect" if found.needs_reconnect else found.oauth, found.version
    )


async def _bus_latency(bus: Connection) -> float | None:
    if not bus.connected:
        return None
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await bus.client.flush()
    except Exception as error:  # noqa: BLE001 - whatever the error is, the bus is not up
        _unknown("bus", error)
        return None
    return _milliseconds_since(started)


def _unknown(what: str, error: Exception) -> None:
    # The answer says so, too, and is asked for every few seconds.
    FAILURES.labels("health", what).inc()
    log.debug("health is not known", of=what, reason=str(error) or type(error).__name__)


def _status(
    engine: MigrationTrack,
    credential: CredentialHealth,
    *parts: ComponentHealth | ServiceHealthBody,
    needs_operator: bool,
) -> Status:
    if engine.pending:
        return "migration_pending"
    usable = credential.state not in _NEEDS_OPERATOR and not needs_operator
    return "healthy" if usable and all(part.status == "up" for part in parts) else "degraded"


def _gateway(
    queue: WebhookQueue,
    webhook_secret: WebhookSecret,
    uptime: float,
    wanted: int,
    reports: Sequence[WorkerReport],
) -> ServiceHealthBody:
    """Describe the gateway, which is not up while it refuses webhooks."""
    waits_for = None
    if webhook_secret.unreadable:
        waits_for = "readable webhook secret"
    elif webhook_secret.missing:
        waits_for = "new webhook secret"
    elif not webhook_secret.known:
        waits_for = "webhook secret"
    elif not queue.can_accept:
        waits_for = "spool"
    elif any(report.full for report in reports):
        waits_for = "room in the spool"
    return ServiceHealthBody(
        status="down" if waits_for else "up",
        uptime=uptime,
        credential_version=webhook_secret.version,
        waits_for=waits_for,
        spool_set_aside=_set_aside(reports) or None,
        workers=wanted if wanted > 1 else None,
        workers_up=len(reports) if wanted > 1 else None,
    )


def _set_aside(reports: Sequence[WorkerReport]) -> int:
    # Damaged files lie in one directory, and each worker sees them.
    files = max((report.files_aside for report in reports), default=0)
    return files + sum(report.refused for report in reports)


def _service(
    answer: ServiceHealth | None, latency: float | None, silent: Condition
) -> ServiceHealthBody:
    if answer is None:
        return ServiceHealthBody(silent)
    return ServiceHealthBody(
        status="down" if answer.waits_for else "up",
        latency_ms=latency,
        uptime=answer.uptime,
        database=answer.database.status,
        credential_version=answer.credential_version,
        waits_for=answer.waits_for,
    )


def _database(answers: Answers) -> ComponentHealth:
    seen = [answer.database for answer in answers.values() if answer is not None]
    if not seen:
        return ComponentHealth("unknown")
    if any(database.status == "down" for database in seen):
        return ComponentHealth("down")
    return ComponentHealth("up", max(database.latency_ms or 0 for database in seen))


def _bus_problems(answers: Answers) -> list[str]:
    """What the services see of NATS, each thing once."""
    seen = [problem for answer in answers.values() if answer for problem in answer.bus_problems]
    return list(dict.fromkeys(seen))


def _engine(answers: Answers) -> MigrationTrack:
    known = {service: answer.schema for service, answer in answers.items() if answer is not None}
    pending = [
        f"{service}/{migration}"
        for service, schema in known.items()
        for migration in schema.pending
    ]
    return MigrationTrack(
        applied=_joined({service: schema.applied for service, schema in known.items()}),
        required=_joined({service: schema.required for service, schema in known.items()}),
        # Not without an answer: a service that cannot look does not know.
        in_sync=not pending and any(schema.applied for schema in known.values()),
        pending=pending,
    )


def _joined(versions: Mapping[str, str | None]) -> str | None:
    named = [f"{service}/{version}" for service, version in versions.items() if version]
    return " ".join(named) or None


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
