"""Health: for the upstream doctor (contract 8.6), for orchestrators, and for Prometheus."""

from __future__ import annotations

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import documented_errors
from services.gateway.health.documents import Health, Liveness, Readiness, SecretKnowledge
from services.gateway.health.report import HealthReports
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.link import Workers


@get(
    "/v1/health",
    operation_id="getHealth",
    summary="Report every component and service",
    tags=["Health"],
)
async def get_health(health: NamedDependency[HealthReports]) -> Health:
    """Report every component and service; each is asked for at most 1.5 seconds.

    The bus counts as down too while JetStream does not take webhooks and they are spooled, the
    worker while it waits for PostgreSQL or JetStream, and the gateway while it refuses webhooks
    with 503, or with 429 because its spool is full. A component without an answer is `unknown`.
    Nothing of this is `healthy`, nor is a credential that needs the operator, nor a NATS that takes
    smaller webhooks than `WEBHOOK_MAX_BYTES` allows.
    """
    return await health.report()


@get(
    "/livez", operation_id="getLiveness", summary="Report that the process answers", tags=["Health"]
)
async def get_liveness() -> Liveness:
    """Answer as long as the process does."""
    return Liveness()


@get(
    "/readyz",
    operation_id="getReadiness",
    summary="Report whether requests should be sent here",
    tags=["Health"],
    responses={503: ResponseSpec(Readiness, description="Webhooks would be refused here.")},
)
async def get_readiness(
    bus: NamedDependency[Connection],
    queue: NamedDependency[WebhookQueue],
    webhook_secret: NamedDependency[WebhookSecret],
    workers: NamedDependency[Workers],
) -> Response[Readiness]:
    """Report whether requests should be sent here; without NATS the spool accepts webhooks.

    A spool that is full is ready: those of other gateways fill up at the same time, and through
    the admin routes the operator may make room in JetStream.

    A webhook secret that is missing, or minted and unreadable, is ready: every replica answers
    webhooks with 503 then, and the operator mends it through the admin routes, which must be
    reachable for that.
    """
    ready = queue.can_accept and _knowledge(webhook_secret) != "unknown"
    reports = await workers.reports()
    body = Readiness(
        ready=ready,
        bus="up" if bus.connected else "down",
        webhook_secret=_knowledge(webhook_secret),
        spooled=sum(report.waiting for report in reports),
        spool_full=any(report.full for report in reports),
    )
    return Response(body, status_code=200 if ready else 503)


@get(
    "/metrics",
    guards=[admin_or_reader],
    media_type=MediaType.TEXT,
    operation_id="getMetrics",
    summary="Report metrics for Prometheus",
    tags=["Health"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=documented_errors(401, 403, 429),
)
async def get_metrics(workers: NamedDependency[Workers]) -> Response[bytes]:
    """Prometheus metrics; scrape with an admin or read key as bearer.

    With `GATEWAY_WORKERS`, those of all of them, each with the label `worker`.
    """
    return Response(await workers.metrics() or generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _knowledge(webhook_secret: WebhookSecret) -> SecretKnowledge:
    if webhook_secret.unreadable:
        return "unreadable"
    if webhook_secret.missing:
        return "missing"
    return "known" if webhook_secret.can_check else "unknown"
