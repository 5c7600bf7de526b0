"""Derives the health of the whole system from the health of every service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from hogsend import __version__
from hogsend.contract.credentials import POSTHOG
from hogsend.contract.health import ServiceHealth
from hogsend.contract.users import User
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
from services.gateway.health.probes import PROBES, measure_bus, probe, read_credential
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.link import Workers
from services.gateway.workers.messages import WorkerReport

_STARTED = time.monotonic()
_NEEDS_OPERATOR = frozenset({"needs_reconnect", "unreadable"})
"""States of a credential that only an operator can end."""

_NO_MIGRATIONS = MigrationTrack(applied=None, required=None, in_sync=True, pending=[])

Replies = Mapping[str, ServiceHealth | None]
"""The reply of each service by its name, or None if it did not reply."""


class HealthReports:
    """Creates health reports. Concurrent requests share one report.

    Anybody may request health, and each report costs a request to each service and a query of each
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
        self._create = partial(report_health, bus, queue, webhook_secret, size, workers)
        self._in_progress: asyncio.Task[Health] | None = None

    async def report(self) -> Health:
        """Return the report that is in progress, or start a new one."""
        if self._in_progress is None or self._in_progress.done():
            self._in_progress = asyncio.create_task(self._create())
        # Shielded: a client that disconnects must not cancel the report for the others.
        return await asyncio.shield(self._in_progress)


async def report_health(
    bus: Connection,
    queue: WebhookQueue,
    webhook_secret: WebhookSecret,
    size: SizeLimit,
    workers: Workers,
) -> Health:
    """Probe all services and workers concurrently, and combine their replies.

    The bus also counts as down while webhooks are spooled because JetStream does not accept them.
    While NATS itself does not respond, services are `unknown`, because they may be running.
    """
    credential, probes, bus_latency, reports = await asyncio.gather(
        read_credential(bus),
        asyncio.gather(*(probe(bus, endpoint) for endpoint in PROBES)),
        measure_bus(bus),
        workers.reports(),
    )
    replies = {service: reply for service, reply, _ in probes}
    without_reply: Condition = "unknown" if bus_latency is None else "down"
    uptime = round(time.monotonic() - _STARTED, 1)
    services = {
        "gateway": _gateway(queue, webhook_secret, uptime, workers.expected, reports),
        **{service: _service(reply, latency, without_reply) for service, reply, latency in probes},
    }
    spooling = any(report.spooling for report in reports)
    is_bus_up = bus_latency is not None and not spooling
    problems = _bus_problems(replies)
    bus_health = ComponentHealth(
        "up" if is_bus_up else "down", bus_latency, problems or None, size.bus_bytes
    )
    database = _database(replies)
    engine = _engine(replies)
    now = datetime.now(UTC)
    last_seen = now if replies[User.INGEST] is not None else None
    return Health(
        status=_status(
            engine,
            credential,
            database,
            bus_health,
            *services.values(),
            needs_operator=_set_aside(reports) > 0
            or len(reports) < workers.expected
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


def _status(
    engine: MigrationTrack,
    credential: CredentialHealth,
    *parts: ComponentHealth | ServiceHealthBody,
    needs_operator: bool,
) -> Status:
    if engine.pending:
        return "migration_pending"
    needs_operator = needs_operator or credential.state in _NEEDS_OPERATOR
    all_up = all(part.status == "up" for part in parts)
    return "healthy" if all_up and not needs_operator else "degraded"


def _gateway(
    queue: WebhookQueue,
    webhook_secret: WebhookSecret,
    uptime: float,
    workers: int,
    reports: Sequence[WorkerReport],
) -> ServiceHealthBody:
    """Describe the gateway, which is down while it refuses webhooks."""
    waits_for = None
    if webhook_secret.unreadable:
        waits_for = "readable webhook secret"
    elif webhook_secret.missing:
        waits_for = "new webhook secret"
    elif not webhook_secret.can_check:
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
        workers=workers if workers > 1 else None,
        workers_up=len(reports) if workers > 1 else None,
    )


def _set_aside(reports: Sequence[WorkerReport]) -> int:
    # All workers count the same directory of damaged files.
    files = max((report.files_aside for report in reports), default=0)
    return files + sum(report.refused for report in reports)


def _service(
    reply: ServiceHealth | None, latency: float | None, without_reply: Condition
) -> ServiceHealthBody:
    if reply is None:
        return ServiceHealthBody(without_reply)
    return ServiceHealthBody(
        status="down" if reply.waits_for else "up",
        latency_ms=latency,
        uptime=reply.uptime,
        database=reply.database.status,
        credential_version=reply.credential_version,
        waits_for=reply.waits_for,
    )


def _database(replies: Replies) -> ComponentHealth:
    databases = [reply.database for reply in replies.values() if reply is not None]
    if not databases:
        return ComponentHealth("unknown")
    if any(database.status == "down" for database in databases):
        return ComponentHealth("down")
    return ComponentHealth("up", max(database.latency_ms or 0 for database in databases))


def _bus_problems(replies: Replies) -> list[str]:
    """Return the problems with NATS that services report, without duplicates."""
    problems = [problem for reply in replies.values() if reply for problem in reply.bus_problems]
    return list(dict.fromkeys(problems))


def _engine(replies: Replies) -> MigrationTrack:
    schemas = {service: reply.schema for service, reply in replies.items() if reply is not None}
    pending = [
        f"{service}/{migration}"
        for service, schema in schemas.items()
        for migration in schema.pending
    ]
    return MigrationTrack(
        applied=_joined({service: schema.applied for service, schema in schemas.items()}),
        required=_joined({service: schema.required for service, schema in schemas.items()}),
        # A service that cannot read its database reports no applied version, so `pending` alone
        # would not show that its schema is unknown.
        in_sync=not pending and any(schema.applied for schema in schemas.values()),
        pending=pending,
    )


def _joined(versions: Mapping[str, str | None]) -> str | None:
    entries = [f"{service}/{version}" for service, version in versions.items() if version]
    return " ".join(entries) or None
