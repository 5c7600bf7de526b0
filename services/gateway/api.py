"""The gateway's HTTP API: routes, their dependencies, and the middleware around them."""

from __future__ import annotations

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp

from hogsend.service.settings.shared import PublicUrlSettings
from hogsend.transport.connection import Connection
from services.gateway.activity.log import ActivityLog
from services.gateway.admin_keys import AdminKeys
from services.gateway.audit import with_audit_trail
from services.gateway.body_budget import BodyBudget
from services.gateway.client_address import ClientAddresses
from services.gateway.console.connecting import CONNECT_ROUTES
from services.gateway.console.live import LiveEvents
from services.gateway.console.pages import CONSOLE_ROUTES, is_console_enabled
from services.gateway.content_encoding import with_content_decoding
from services.gateway.correlation import with_correlation_id
from services.gateway.decoded_bodies import DecodedBodies
from services.gateway.described_bodies import DescribedBodies
from services.gateway.examples import add_examples
from services.gateway.exception_handlers import EXCEPTION_HANDLERS
from services.gateway.head_requests import with_head_requests
from services.gateway.health.report import HealthReports
from services.gateway.json_request import JSONRequest
from services.gateway.openapi import openapi_config
from services.gateway.parts import Parts
from services.gateway.query_keys import refuse_query_keys
from services.gateway.request_headers import with_valid_headers
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
from services.gateway.routes.contact_privacy import ContactPrivacyController
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
from services.gateway.settings import GatewaySettings
from services.gateway.signatures import Signatures
from services.gateway.slow_readers import with_responses_in_pieces
from services.gateway.tracing import with_traces
from services.gateway.truncated_responses import with_truncated_responses_logged
from services.gateway.webhooks.deliveries import PostHogDeliveries, with_deliveries
from services.gateway.webhooks.refusals import Refusals


def build(parts: Parts, public: PublicUrlSettings, *, partitions: int = 1) -> Litestar:
    """Build the Litestar app with all routes and their dependencies."""
    bus, settings, workers = parts.bus, parts.settings, parts.workers
    deliveries = PostHogDeliveries(
        parts.queue,
        parts.webhook_secret,
        Signatures(parts.signing_keys, required=settings.signatures_required),
        size=parts.size,
        refusals=Refusals(ClientAddresses(settings.trusted_proxies)),
        max_bytes=settings.webhook_max_bytes,
        in_order=partitions > 1,
    )
    health = HealthReports(bus, parts.queue, parts.webhook_secret, parts.size, workers)
    live, activity = LiveEvents(bus), ActivityLog(bus)
    console = is_console_enabled(settings.console, host=settings.gateway_host)
    keys = AdminKeys(
        settings,
        console=console,
        public_url=public.api_public_url,
        on_counted=workers.publish_count,
    )
    workers.on_counted = keys.add_remote_count
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
            ContactPrivacyController,
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
            "bus": _always(bus),
            "live": _always(live),
            "activity": _always(activity),
            "queue": _always(parts.queue),
            "webhook_secret": _always(parts.webhook_secret),
            "signing_keys": _always(parts.signing_keys),
            "signatures_required": _always(settings.signatures_required),
            "health": _always(health),
            "workers": _always(workers),
            "posthog": _always(parts.posthog),
            "public": _always(public),
        },
        request_class=JSONRequest,
        before_request=refuse_query_keys,
        state=State(
            {
                "admin_keys": keys,
                "deliveries": deliveries,
                "live": live,
                "activity": activity,
                "decoded_bodies": DecodedBodies(),
            }
        ),
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=settings.webhook_max_bytes,
        openapi_config=openapi_config(),
        plugins=[DescribedBodies()],
        logging_config=None,
    )
    add_examples(app)
    return app


def _always(value: object) -> Provide:
    """Provide the same value to every request, without the thread Litestar uses by default."""
    return Provide(lambda: value, sync_to_thread=False)


def with_middleware(litestar: Litestar, bus: Connection, settings: GatewaySettings) -> ASGIApp:
    """Wrap the Litestar app; middleware inside it would not see requests for unknown routes."""
    app = litestar.state.decoded_bodies.released_after(with_responses_in_pieces(litestar))
    app = with_audit_trail(with_head_requests(app), bus, ClientAddresses(settings.trusted_proxies))
    app = with_valid_headers(with_deliveries(app, litestar.state.deliveries))
    app = with_content_decoding(app, settings.webhook_max_bytes)
    budget = BodyBudget(settings.webhook_max_bytes)
    app = with_body_timeout(app, settings.http_request_timeout_seconds, budget)
    app = with_correlation_id(with_truncated_responses_logged(app))
    return with_traces(with_response_headers(app))
