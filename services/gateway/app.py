"""Composes the gateway: the HTTP server, the broker, and the background tasks."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from faststream import FastStream
from granian.server.embed import Server

from hogsend.contract.users import User
from hogsend.service import telemetry
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker, service_broker
from hogsend.service.heartbeat import touch_periodically
from hogsend.service.settings.shared import (
    BusSettings,
    OutboundSettings,
    PartitionSettings,
    PostHogSettings,
    PublicUrlSettings,
    TelemetrySettings,
)
from hogsend.service.tasks import Work
from services.gateway.activity.log import gateway_activity
from services.gateway.api import build, with_middleware
from services.gateway.handlers import router
from services.gateway.health.measured import keep_checking_capabilities, keep_measuring_disk
from services.gateway.listener import join, listening_socket
from services.gateway.liveness import LivenessListener
from services.gateway.notices.operator_webhook import operator_webhook
from services.gateway.parts import Parts, build_parts
from services.gateway.server import make_server
from services.gateway.settings import GatewaySettings
from services.gateway.workers.identity import (
    WorkerIdentity,
    worker_identity,
    worker_settings,
    worker_telemetry,
)

log = structlog.get_logger(__name__)

SECRET_SECONDS = 3.0
"""How long a starting gateway waits for the webhook secret before it accepts connections."""


def create_app(
    broker: ServiceBroker,
    server: Server,
    parts: Parts,
    *,
    background: Sequence[Work] = (),
    stopping: Sequence[Work] = (),
) -> FastStream:
    """Compose the process from the HTTP server and the broker.

    The HTTP server starts even while NATS is unavailable, and stops before the broker does.
    """
    broker.provide(parts.watcher)
    broker.include(router, activity=gateway_activity)
    broker.link.on_reconnect(parts.watcher.reconnected)

    async def stop_listening() -> None:
        server.stop()  # type: ignore[no-untyped-call]
        await stopped.wait()

    async def listen() -> None:
        try:
            # Meanwhile connections wait in the socket's backlog. Without the secret, webhooks
            # would be refused.
            await parts.webhook_secret.wait_until_loaded(within=SECRET_SECONDS)
            if parts.settings.signatures_required:
                await parts.signing_keys.wait_until_loaded(within=SECRET_SECONDS)
            parts.workers.report_ready()
            await server.serve()
        finally:
            stopped.set()

    stopped = asyncio.Event()
    return service_app(
        broker,
        background=[
            listen,
            parts.watcher.revalidate,
            parts.queue.drain_forever,
            parts.workers.listen,
            *background,
        ],
        stopping=[*stopping, stop_listening],
        closing=[parts.spool.close] if parts.spool is not None else [],
    )


def _listening(
    settings: GatewaySettings, worker: WorkerIdentity | None
) -> Callable[[], socket.socket]:
    """Return a function that returns the server's socket, called when the server starts.

    A gateway of one process opens the socket now; a worker only when the function is called.
    """
    unread_seconds = settings.http_request_timeout_seconds
    if worker is not None:
        return partial(join, worker.port, unread_seconds=unread_seconds)
    listening = listening_socket(
        settings.gateway_host,
        settings.gateway_port,
        share=settings.gateway_share_port,
        unread_seconds=unread_seconds,
        environment=os.environ,
    )
    log.info("listening", url=settings.listening_url)
    return lambda: listening


def _in_first_worker(worker: WorkerIdentity | None, work: Work) -> list[Work]:
    """Return `work` in the first worker, or in a gateway of one process, and no work elsewhere.

    The first worker does it for all workers.
    """
    return [work] if worker is None or worker.number == 1 else []


async def run() -> None:
    """Run until SIGTERM or SIGINT: finish open requests, then stop."""
    settings, posthog, public = GatewaySettings(), PostHogSettings(), PublicUrlSettings()
    observed, nats = TelemetrySettings(), BusSettings()
    if worker := worker_identity(os.environ):
        settings, observed = worker_settings(settings), worker_telemetry(observed)
    async with telemetry.reporting(User.GATEWAY, observed):
        if worker is not None:
            structlog.contextvars.bind_contextvars(worker=worker.number)
        if settings.admin_api_key is None:
            log.warning("ADMIN_API_KEY is not set: every admin request will be answered 401")

        broker = service_broker(User.GATEWAY, nats)
        parts = build_parts(broker.link, settings, posthog, worker)
        app = build(parts, public, partitions=PartitionSettings().ingest_partitions)
        server = make_server(with_middleware(app, broker.link, settings), settings)
        server.listening = _listening(settings, worker)
        await create_app(
            broker,
            server,
            parts,
            background=[
                partial(touch_periodically, observed.health_file),
                partial(app.state.activity.keep, broker.instance),
                parts.size.watch,
                LivenessListener(settings.gateway_host, settings.gateway_liveness_port).serve,
                *_in_first_worker(
                    worker,
                    partial(
                        keep_checking_capabilities,
                        broker.link,
                        parts.webhook_secret,
                        signatures_required=settings.signatures_required,
                    ),
                ),
                *_in_first_worker(worker, partial(keep_measuring_disk, settings.spool_dir)),
                *operator_webhook(broker.link, parts.workers, settings, OutboundSettings()),
            ],
            stopping=[app.state.live.close],
        ).run()
