"""Puts the gateway together: the HTTP server, the broker, and the work beside them."""

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
from hogsend.service.heartbeat import touch_forever
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
from services.gateway.health.measured import keep_asking, keep_measuring_disk
from services.gateway.listener import join, listening_socket
from services.gateway.liveness import LivenessListener
from services.gateway.notices.telling import telling
from services.gateway.parts import Parts, build_parts
from services.gateway.server import make_server
from services.gateway.settings import GatewaySettings
from services.gateway.workers.place import Place, place_of, share_of, without_ports

log = structlog.get_logger(__name__)

SECRET_SECONDS = 3.0
"""How long a gateway that starts waits for the webhook secret before it answers anything."""


def create_app(
    broker: ServiceBroker,
    server: Server,
    parts: Parts,
    *,
    background: Sequence[Work] = (),
    stopping: Sequence[Work] = (),
) -> FastStream:
    """Put the process together: an HTTP server beside the broker.

    It answers from the beginning, while NATS may not be reached yet, and stops first.
    """
    broker.provide(parts.watcher)
    broker.include(router, activity=gateway_activity)
    broker.link.on_reconnect(parts.watcher.reconnected)

    async def stop_listening() -> None:
        server.stop()  # type: ignore[no-untyped-call]
        await stopped.wait()

    async def listen() -> None:
        try:
            # Connections wait in the socket meanwhile; without the secret they would be refused.
            await parts.webhook_secret.heard_of(within=SECRET_SECONDS)
            if parts.settings.signatures_required:
                await parts.signing_keys.heard_of(within=SECRET_SECONDS)
            parts.workers.ready()
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


def _listening(settings: GatewaySettings, place: Place | None) -> Callable[[], socket.socket]:
    """Give what opens the server's socket: at once, or for a worker when it begins to serve."""
    unread_seconds = settings.http_request_timeout_seconds
    if place is not None:
        return partial(join, place.port, unread_seconds=unread_seconds)
    listening = listening_socket(
        settings.gateway_host,
        settings.gateway_port,
        share=settings.gateway_share_port,
        unread_seconds=unread_seconds,
        environment=os.environ,
    )
    log.info("listening", url=settings.listening_url)
    return lambda: listening


def _once(place: Place | None, work: Work) -> list[Work]:
    """Give work that one of several workers does for all of them: the first."""
    return [work] if place is None or place.number == 1 else []


async def run() -> None:
    """Run until SIGTERM or SIGINT: finish open requests, then stop."""
    settings, posthog, public = GatewaySettings(), PostHogSettings(), PublicUrlSettings()
    observed, nats = TelemetrySettings(), BusSettings()
    if place := place_of(os.environ):
        settings, observed = share_of(settings), without_ports(observed)
    async with telemetry.reporting(User.GATEWAY, observed):
        if place is not None:
            structlog.contextvars.bind_contextvars(worker=place.number)
        if settings.admin_api_key is None:
            log.warning("ADMIN_API_KEY is not set: every admin request will be answered 401")

        broker = service_broker(User.GATEWAY, nats)
        parts = build_parts(broker.link, settings, posthog, place)
        app = build(parts, public, partitions=PartitionSettings().ingest_partitions)
        server = make_server(with_middleware(app, broker.link, settings), settings)
        server.listening = _listening(settings, place)
        await create_app(
            broker,
            server,
            parts,
            background=[
                partial(touch_forever, observed.health_file),
                partial(app.state.activity.keep, broker.instance),
                parts.size.watch,
                LivenessListener(settings.gateway_host, settings.gateway_liveness_port).serve,
                *_once(
                    place,
                    partial(
                        keep_asking,
                        broker.link,
                        parts.webhook_secret,
                        signatures_required=settings.signatures_required,
                    ),
                ),
                *_once(place, partial(keep_measuring_disk, settings.spool_dir)),
                *telling(broker.link, parts.workers, settings, OutboundSettings()),
            ],
            stopping=[app.state.live.close],
        ).run()
