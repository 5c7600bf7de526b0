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
    """Report the state of every component and service. Each is probed for at most 1.5 seconds.

    The bus is also `down` while webhooks are spooled because JetStream does not accept them. The
    worker is `down` while it waits for PostgreSQL or JetStream. The gateway is `down` while it
    answers webhooks with 503, or with 429 because its spool is full. A component that does not
    reply is `unknown`.

    `status` is `healthy` only if everything is up, no credential needs an operator, and NATS
    accepts webhooks of `WEBHOOK_MAX_BYTES`.
    """
    return await health.report()


@get("/livez", operation_id="getLiveness", summary="Report that the process runs", tags=["Health"])
async def get_liveness() -> Liveness:
    """Answer 200 as long as the process responds at all."""
    return Liveness()


@get(
    "/readyz",
    operation_id="getReadiness",
    summary="Report whether requests should be sent to this gateway",
    tags=["Health"],
    responses={503: ResponseSpec(Readiness, description="This gateway would refuse webhooks.")},
)
async def get_readiness(
    bus: NamedDependency[Connection],
    queue: NamedDependency[WebhookQueue],
    webhook_secret: NamedDependency[WebhookSecret],
    workers: NamedDependency[Workers],
) -> Response[Readiness]:
    """Report whether requests should be sent to this gateway.

    Without NATS the gateway is ready, because its spool accepts webhooks. It is also ready while
    its spool is full: the spools of other gateways fill up at the same time, and the operator needs
    the admin routes to free space in JetStream.

    It is also ready while the webhook secret is missing or unreadable. All replicas answer webhooks
    with 503 then, and the operator needs the admin routes to repair it.
    """
    ready = queue.can_accept and _secret_state(webhook_secret) != "unknown"
    reports = await workers.reports()
    body = Readiness(
        ready=ready,
        bus="up" if bus.connected else "down",
        webhook_secret=_secret_state(webhook_secret),
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
    """Return metrics in Prometheus' text format. Scrape with an admin or read key as bearer token.

    With `GATEWAY_WORKERS` above 1, these are the metrics of all workers, with the label `worker`.
    """
    return Response(await workers.metrics() or generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _secret_state(webhook_secret: WebhookSecret) -> SecretKnowledge:
    if webhook_secret.unreadable:
        return "unreadable"
    if webhook_secret.missing:
        return "missing"
    return "known" if webhook_secret.can_check else "unknown"
