"""The spans of requests, batches and stages, and their parents, from an in-memory exporter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faststream.nats import TestNatsBroker
from nats.aio.msg import Msg
from opentelemetry import propagate
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hogsend.contract.credentials import CREDENTIALS_DELETE, Deleted, ProviderRef
from hogsend.contract.errors import CannotStart, NotFound
from hogsend.contract.headers import TRACEPARENT
from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service import tracing
from hogsend.service.router import ServiceRouter
from hogsend.service.tracing import Tracing
from tests.offline_broker import offline_broker

REF = ProviderRef(provider_id="posthog")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(Tracing(provider))
    yield exporter
    tracing.use(None)


def span_named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


async def test_a_request_is_answered_in_a_span_of_its_callers_trace(
    spans: InMemorySpanExporter,
) -> None:
    router, sent = ServiceRouter(), dict[str, str]()

    @router.endpoint(CREDENTIALS_DELETE)
    async def delete(_request: ProviderRef) -> Deleted:
        # A message that the handler publishes belongs to the same trace.
        current = tracing.in_use()
        assert current is not None
        current.inject(sent)
        return Deleted(deleted=True)

    broker = offline_broker(User.CREDENTIALS)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.request(REF, CREDENTIALS_DELETE.subject, headers={TRACEPARENT: PARENT})
    span = span_named(spans, f"{CREDENTIALS_DELETE.subject} process")
    assert span.context is not None
    assert span.context.trace_id == TRACE
    assert span.parent is not None
    assert span.parent.span_id == SPAN
    assert sent[TRACEPARENT].split("-")[2] == f"{span.context.span_id:016x}"


async def test_a_typed_error_is_on_its_span(spans: InMemorySpanExporter) -> None:
    router = ServiceRouter()

    @router.endpoint(CREDENTIALS_DELETE)
    async def delete(_request: ProviderRef) -> Deleted:
        raise NotFound("there is none")

    broker = offline_broker(User.CREDENTIALS)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.request(REF, CREDENTIALS_DELETE.subject)
    span = span_named(spans, f"{CREDENTIALS_DELETE.subject} process")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "not_found"


async def test_each_message_of_a_batch_has_a_span_in_its_own_trace(
    spans: InMemorySpanExporter,
) -> None:
    router, seen = ServiceRouter(), list[str | None]()

    @router.batches(StreamName.WEBHOOKS, INGEST_CONSUMER)
    async def webhooks(messages: list[Msg]) -> None:
        traceparents = [(message.headers or {}).get(TRACEPARENT) for message in messages]
        seen.extend(traceparents)
        with tracing.stage("store", traceparents):
            pass

    broker = offline_broker(User.INGEST)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.publish(b"{}", "hogsend.webhooks.posthog", headers={TRACEPARENT: PARENT})
    process = span_named(spans, "hogsend.webhooks.posthog process")
    store = span_named(spans, "store")
    assert process.context is not None
    assert store.context is not None
    assert process.parent is not None
    assert store.parent is not None
    assert (process.context.trace_id, store.context.trace_id) == (TRACE, TRACE)
    assert process.parent.span_id == SPAN
    assert store.parent.span_id == process.context.span_id
    assert seen == [f"00-{TRACE:032x}-{process.context.span_id:016x}-01"]


async def test_a_failing_stage_has_an_error_status_and_raises(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="defect"), tracing.stage("store", [PARENT, None]):
        raise ValueError("defect")
    status = span_named(spans, "store").status
    assert not status.is_ok
    # The text of an exception may quote message content, so it is not recorded.
    assert status.description == "ValueError"


def test_without_tracing_a_stage_does_nothing() -> None:
    assert tracing.in_use() is None
    with tracing.stage("store", [PARENT]):
        pass


@pytest.mark.parametrize(
    ("environment", "enabled"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_standard_variables_turn_traces_on(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, enabled: bool
) -> None:
    for name in ("OTEL_SDK_DISABLED", *tracing.SETTINGS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_enabled() is enabled


def test_enabled_traces_without_opentelemetry_stop_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CannotStart, match=r"docs/traces\.md"):
        tracing.configure("ingest")


def test_a_failing_handlers_span_does_not_quote_its_error(spans: InMemorySpanExporter) -> None:
    current = tracing.in_use()
    assert current is not None
    with pytest.raises(ValueError, match="phc_key"), current.span("ask", {}, kind="SERVER"):
        raise ValueError("phc_key")
    span = span_named(spans, "ask")
    assert (span.status.description, span.events) == ("ValueError", ())


def test_a_clients_baggage_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    before = propagate.get_global_textmap()
    try:
        tracing.configure("gateway")
        assert "baggage" not in propagate.get_global_textmap().fields
    finally:
        tracing.shut_down()
        propagate.set_global_textmap(before)
