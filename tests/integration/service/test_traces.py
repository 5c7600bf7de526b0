"""A trace that starts with an HTTP request contains the spans of all services that it involves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faststream import FastStream
from faststream.nats.opentelemetry import NatsTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hogsend import Event
from hogsend.contract import subjects
from hogsend.contract.users import User
from hogsend.faststream import HogsendBroker
from hogsend.service import tracing
from hogsend.service.tracing import Tracing
from tests.integration.harness import (
    admin,
    analytics_service,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
GRANT = {
    "accessToken": "pha_a",
    "refreshToken": "phr_r",
    "expiresAt": "2099-01-01T00:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read"],
}
WEBHOOK = {"event": {"event": "signed_up", "distinct_id": "u_42", "uuid": "0190-1"}}


class Trace:
    """The spans of a single trace, from all services in this process."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the finished spans of the trace with this name."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.name == name and span.context.trace_id == TRACE
        ]

    async def span(self, name: str) -> ReadableSpan:
        """Wait for the only span with this name to finish, and return it."""
        (span,) = await eventually(lambda: self.spans(name))
        assert isinstance(span, ReadableSpan)
        return span


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    tracing.use(Tracing(provider))
    yield provider
    tracing.use(None)


@pytest.fixture
def trace(provider: TracerProvider) -> Trace:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Trace(exporter)


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


async def test_a_webhook_and_its_handling_by_an_external_app_are_one_trace(
    servers: Servers, database_url: str, tmp_path: Path, provider: TracerProvider, trace: Trace
) -> None:
    broker = HogsendBroker(
        servers.nats_url(User.SUBSCRIBER),
        middlewares=[NatsTelemetryMiddleware(tracer_provider=provider)],
        logger=None,
    )

    @broker.events("signed_up", durable="mailer")
    async def welcome(_event: Event) -> None:
        """Do nothing: only the span is checked."""

    async with (
        credentials_service(servers, database_url),
        ingest_service(servers, database_url),
        gateway_service(servers, tmp_path) as front,
        FastStream(broker, logger=None),
    ):
        answer = await front.http.post(
            "/v1/webhooks/posthog", json=WEBHOOK, headers={"traceparent": PARENT}
        )
        assert answer.status_code == 200
        received = await trace.span("POST /v1/webhooks/posthog")
        queued = await trace.span("hogsend.webhooks.posthog process")
        stored, published = await trace.span("store event"), await trace.span("publish event")
        handled = await trace.span("hogsend.events.signed_up process")
    assert parent(received) == SPAN
    assert parent(queued) == received.context.span_id
    assert parent(stored) == parent(published) == queued.context.span_id
    assert parent(handled) == queued.context.span_id


async def test_a_credential_change_and_its_handling_by_every_consumer_are_one_trace(
    servers: Servers, database_url: str, tmp_path: Path, trace: Trace
) -> None:
    async with (
        credentials_service(servers, database_url),
        provisioner_service(servers, database_url, posthog={}),
        analytics_service(servers, database_url, posthog={}),
        gateway_service(servers, tmp_path) as front,
    ):
        answer = await front.http.put(
            "/v1/admin/provider-credentials/posthog",
            json={"payload": GRANT},
            headers={**admin(), "traceparent": PARENT},
        )
        assert answer.status_code == 200
        request = await trace.span("PUT /v1/admin/provider-credentials/posthog")
        stored = await trace.span("hogsend.rpc.credentials.put process")
        received = f"{subjects.credential_changed('posthog')} process"
        # The consumers are the gateway, the provisioner and analytics.
        await eventually(lambda: len(trace.spans(received)) == 3)
    assert parent(request) == SPAN
    assert parent(stored) == request.context.span_id
    assert {parent(span) for span in trace.spans(received)} == {stored.context.span_id}
