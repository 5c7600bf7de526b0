"""Builds the gateway: the Litestar app, and the process around it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from faststream import FastStream
from granian.server.embed import Server
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp

from hogsend.contract.users import User
from hogsend.service import telemetry
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker, service_broker
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.heartbeat import touch_forever
from hogsend.service.settings import (
    BusSettings,
    OutboundSettings,
    PartitionSettings,
    PostHogSettings,
    PublicUrlSettings,
    TelemetrySettings,
)
from hogsend.service.tasks import Work
from hogsend.transport.connection import Connection
from services.gateway.activity.log import ActivityLog, gateway_activity
from services.gateway.audit import with_audit_trail
from services.gateway.auth import AdminKeys
from services.gateway.body_budget import BodyBudget
from services.gateway.client_address import ClientAddresses
from services.gateway.console.connecting import CONNECT_ROUTES
from services.gateway.console.live import LiveEvents
from services.gateway.console.pages import CONSOLE_ROUTES, console_is_shown
from services.gateway.content_encoding import with_content_decoding
from services.gateway.correlation import with_correlation_id
from services.gateway.error_responses import EXCEPTION_HANDLERS
from services.gateway.examples import add_examples
from services.gateway.handlers import PROVIDER, router
from services.gateway.head_requests import with_head_requests
from services.gateway.health.measured import keep_asking, keep_measuring_disk
from services.gateway.json_request import JSONRequest
from services.gateway.listener import join, listening_socket
from services.gateway.liveness import LivenessListener
from services.gateway.notices.telling import telling
from services.gateway.openapi import openapi_config
from services.gateway.query_keys import refuse_unknown_query_keys
from services.gateway.request_timeouts import with_body_timeout
from services.gateway.response_headers import with_response_headers
from services.gateway.routes.activity import get_activity
from services.gateway.routes.audit import list_audit_entries
from services.gateway.routes.backfills import BackfillsController
from services.gateway.routes.capabilities import list_capabilities
from services.gateway.routes.client_document import (
    get_hogsend_client_document,
    get_own_client_document,
)
from services.gateway.routes.connect_info import get_connect_info
from services.gateway.routes.contact_records import ContactRecordsController
from services.gateway.routes.contacts import ContactsController
from services.gateway.routes.credentials import CredentialsController
from services.gateway.routes.deadletters import DeadLettersController
from services.gateway.routes.destinations import DestinationsController
from services.gateway.routes.diagnosis import get_diagnosis
from services.gateway.routes.documentation_assets import get_documentation_asset
from services.gateway.routes.event_trace import trace_event
from services.gateway.routes.events import list_events, replay_events
from services.gateway.routes.flags import evaluate_flags
from services.gateway.routes.health import get_health, get_liveness, get_metrics, get_readiness
from services.gateway.routes.not_offered import not_offered_routes
from services.gateway.routes.overview import get_overview
from services.gateway.routes.provisioning import provision_loop
from services.gateway.routes.record import record_event
from services.gateway.routes.webhooks import posthog_route, unknown_source
from services.gateway.server import make_server
from services.gateway.settings import GatewaySettings
from services.gateway.signatures import Signatures
from services.gateway.signing_keys import SigningKeys
from services.gateway.slow_readers import with_answers_in_pieces
from services.gateway.tracing import with_traces
from services.gateway.webhooks.deliveries import PostHogDeliveries, with_deliveries
from services.gateway.webhooks.refusals import Refusals
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.spool import Spool
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.link import Workers
from services.gateway.workers.place import Place, place_of, share_of, without_ports

log = structlog.get_logger(__name__)


SECRET_SECONDS = 3.0
"""How long a gateway that starts waits for the webhook secret before it answers anything."""


def build(
    bus: Connection,
    queue: WebhookQueue,
    webhook_secret: WebhookSecret,
    signing_keys: SigningKeys,
    settings: GatewaySettings,
    *,
    posthog: PostHogSettings,
    public: PublicUrlSettings,
    workers: Workers | None = None,
    partitions: int = 1,
) -> Litestar:
    """Put the routes and what they need together."""
    workers = workers or Workers(queue)
    size = SizeLimit(bus, settings.webhook_max_bytes)
    deliveries = PostHogDeliveries(
        queue,
        webhook_secret,
        Signatures(signing_keys, required=settings.signatures_required),
        size=size,
        refusals=Refusals(ClientAddresses(settings.trusted_proxies)),
        max_bytes=settings.webhook_max_bytes,
        in_order=partitions > 1,
    )
    live, activity = LiveEvents(bus), ActivityLog(bus)
    console = console_is_shown(wanted=settings.console, host=settings.gateway_host)
    keys = AdminKeys(
        settings, sessions=console, public_url=public.api_public_url, counted=workers.count
    )
    workers.heard = keys.count_elsewhere
    app = Litestar(
        route_handlers=[
            posthog_route(deliveries),
            unknown_source,
            CredentialsController,
            get_connect_info,
            provision_loop,
            get_diagnosis,
            DeadLettersController,
            DestinationsController,
            list_events,
            replay_events,
            trace_event,
            ContactsController,
            ContactRecordsController,
            evaluate_flags,
            get_overview,
            get_activity,
            *not_offered_routes(),
            BackfillsController,
            record_event,
            list_capabilities,
            list_audit_entries,
            get_health,
            get_liveness,
            get_readiness,
            get_metrics,
            get_hogsend_client_document,
            get_own_client_document,
            get_documentation_asset,
            *([*CONSOLE_ROUTES, *CONNECT_ROUTES] if console else []),
        ],
        dependencies={
            "bus": Provide(lambda: bus, sync_to_thread=False),
            "live": Provide(lambda: live, sync_to_thread=False),
            "activity": Provide(lambda: activity, sync_to_thread=False),
            "queue": Provide(lambda: queue, sync_to_thread=False),
            "webhook_secret": Provide(lambda: webhook_secret, sync_to_thread=False),
            "signing_keys": Provide(lambda: signing_keys, sync_to_thread=False),
            "signatures_required": Provide(
                lambda: settings.signatures_required, sync_to_thread=False
            ),
            "size": Provide(lambda: size, sync_to_thread=False),
            "workers": Provide(lambda: workers, sync_to_thread=False),
            "posthog": Provide(lambda: posthog, sync_to_thread=False),
            "public": Provide(lambda: public, sync_to_thread=False),
        },
        request_class=JSONRequest,
        before_request=refuse_unknown_query_keys,
        state=State(
            {"admin_keys": keys, "deliveries": deliveries, "live": live, "activity": activity}
        ),
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=settings.webhook_max_bytes,
        openapi_config=openapi_config(),
        logging_config=None,
    )
    add_examples(app)
    return app


@dataclass(frozen=True)
class Parts:
    """What the gateway works with, besides its routes."""

    watcher: CredentialWatcher
    webhook_secret: WebhookSecret
    signing_keys: SigningKeys
    signatures_required: bool
    spool: Spool | None
    queue: WebhookQueue
    workers: Workers


def build_parts(
    link: Connection,
    settings: GatewaySettings,
    posthog: PostHogSettings,
    place: Place | None = None,
) -> Parts:
    """Make the parts of a gateway that publishes and asks over `link`.

    Args:
        link: to NATS.
        settings: the gateway's, or a worker's share of them.
        posthog: PostHog's.
        place: which worker this process is; None where it is the whole gateway.
    """
    spool = (
        Spool(settings.spool_dir, settings.spool_max_bytes) if settings.spool_max_bytes else None
    )
    queue = WebhookQueue(link, spool, settings.webhook_ack_timeout_ms / 1000)
    watcher = CredentialWatcher(PROVIDER)
    secret = posthog.posthog_webhook_secret
    return Parts(
        watcher=watcher,
        webhook_secret=WebhookSecret(
            link,
            watcher,
            secret.get_secret_value() if secret else None,
            settings.spool_dir / "webhook-secret.json",
            previous=[
                earlier.get_secret_value() for earlier in settings.posthog_webhook_secret_previous
            ],
            may_be_open=settings.webhook_open,
        ),
        signing_keys=SigningKeys.of(link, watcher, settings, posthog),
        signatures_required=settings.signatures_required,
        spool=spool,
        queue=queue,
        workers=Workers(queue, place, settings.gateway_workers) if place else Workers(queue),
    )


def with_middleware(litestar: Litestar, bus: Connection, settings: GatewaySettings) -> ASGIApp:
    """Wrap the Litestar app; middleware inside it would not see requests for unknown routes."""
    app: ASGIApp = with_head_requests(with_answers_in_pieces(litestar))
    app = with_audit_trail(app, bus, ClientAddresses(settings.trusted_proxies))
    app = with_deliveries(app, litestar.state.deliveries)
    app = with_content_decoding(app, settings.webhook_max_bytes)
    budget = BodyBudget(settings.webhook_max_bytes)
    app = with_body_timeout(app, settings.http_request_timeout_seconds, budget)
    app = with_correlation_id(app)
    return with_traces(with_response_headers(app))


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
            if parts.signatures_required:
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
    log.info("listening", url=f"http://{settings.gateway_host}:{settings.gateway_port}")
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
        app = build(
            broker.link,
            parts.queue,
            parts.webhook_secret,
            parts.signing_keys,
            settings,
            posthog=posthog,
            public=public,
            workers=parts.workers,
            partitions=PartitionSettings().ingest_partitions,
        )
        server = make_server(with_middleware(app, broker.link, settings), settings)
        server.listening = _listening(settings, place)
        await create_app(
            broker,
            server,
            parts,
            background=[
                partial(touch_forever, observed.health_file),
                partial(app.state.activity.keep, broker.instance),
                SizeLimit(broker.link, settings.webhook_max_bytes).watch,
                LivenessListener(settings.gateway_host, settings.gateway_liveness_port).serve,
                *_once(place, partial(keep_asking, broker.link)),
                *_once(place, partial(keep_measuring_disk, settings.spool_dir)),
                *telling(broker.link, parts.workers, settings, OutboundSettings()),
            ],
            stopping=[app.state.live.close],
        ).run()
