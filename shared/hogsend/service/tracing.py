"""OpenTelemetry traces, for example of a webhook from HTTP to its subscribers.

Spans are created only if the standard `OTEL_*` variables name an exporter. Otherwise traces cost
nothing: no middleware is added, and OpenTelemetry is not imported. The trace context travels in
message headers as W3C `traceparent` (https://www.w3.org/TR/trace-context/).

FastStream's own telemetry middleware starts a new trace for every batch, and links it to the traces
of the messages. Here each message of a batch gets a span in its own trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from hogsend._version import __version__
from hogsend.contract.errors import CannotStart
from hogsend.contract.headers import TRACEPARENT
from hogsend.service import metrics

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger(__name__)

NAME = "hogsend"
EXPORT_SECONDS = 1.0
"""How long a process that ends waits until its last spans are exported."""

SETTINGS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""The variables that name an exporter."""


class Consumed(Protocol):
    """A message of a stream."""

    headers: dict[str, str] | None
    subject: str


class Tracing:
    """Creates spans, and passes their context on in message headers."""

    def __init__(self, provider: TracerProvider) -> None:
        """Create spans with `provider`."""
        from opentelemetry import trace  # noqa: PLC0415 - imported only if traces are enabled
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._trace = trace
        self._provider = provider
        self._propagator = TraceContextTextMapPropagator()
        self._tracer: Tracer = provider.get_tracer(NAME, __version__)

    @property
    def provider(self) -> TracerProvider:
        """The provider that creates and exports the spans."""
        return self._provider

    def inject(self, headers: dict[str, str]) -> None:
        """Add the context of the current span to `headers`; does nothing without one."""
        self._propagator.inject(headers)

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str], *, kind: str) -> Iterator[Span]:
        """Run the block in a span of the trace that `headers` name.

        Args:
            name: of the span.
            headers: of a message; if they name no trace, a new one is started.
            kind: `SERVER`, `CONSUMER`, `PRODUCER` or `INTERNAL`.
        """
        started = self._tracer.start_span(
            name, context=self._context(headers), kind=self._trace.SpanKind[kind]
        )
        with (
            self._ending(started) as span,
            # The text of an exception may quote message content, so it is not recorded.
            self._trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield span

    @contextmanager
    def consumed(self, messages: Sequence[Consumed]) -> Iterator[None]:
        """Run the block in a span for each message of a batch.

        The headers of each message are replaced with headers that name its span, so that whatever
        the handler publishes for the message belongs to the same trace.
        """
        with ExitStack() as stack:
            for message in messages:
                headers = dict(message.headers or {})
                span = stack.enter_context(
                    self._ending(
                        self._tracer.start_span(
                            f"{message.subject} process",
                            context=self._context(headers),
                            kind=self._trace.SpanKind.CONSUMER,
                        )
                    )
                )
                self._propagator.inject(headers, self._trace.set_span_in_context(span))
                message.headers = headers
            yield

    @contextmanager
    def stage(self, name: str, traceparents: Iterable[str | None]) -> Iterator[None]:
        """Run the block in a span of each trace, for one operation on messages of all of them."""
        with ExitStack() as stack:
            for traceparent in traceparents:
                if traceparent is not None:
                    context = self._context({TRACEPARENT: traceparent})
                    span = self._tracer.start_span(name, context=context)
                    stack.enter_context(self._ending(span))
            yield

    @contextmanager
    def _ending(self, span: Span) -> Iterator[Span]:
        try:
            yield span
        except BaseException as error:
            span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def _context(self, headers: Mapping[str, str]) -> Context:
        return self._propagator.extract(headers)


_in_use: Tracing | None = None


def use(tracing: Tracing | None) -> None:
    """Set what this process creates spans with; None turns traces off."""
    global _in_use  # noqa: PLW0603 - one for the process, like OpenTelemetry's own provider
    _in_use = tracing


def in_use() -> Tracing | None:
    """Return what this process creates spans with; None if traces are off."""
    return _in_use


def inject(headers: dict[str, str]) -> None:
    """Add the context of the current span to the headers of a message that is published later.

    Does nothing if traces are off.
    """
    if _in_use is not None:
        _in_use.inject(headers)


@contextmanager
def stage(name: str, traceparents: Iterable[str | None]) -> Iterator[None]:
    """Run the block in a span of each trace, see `Tracing.stage`; in none if traces are off."""
    if _in_use is None:
        yield
        return
    with _in_use.stage(name, traceparents):
        yield


def is_enabled() -> bool:
    """Whether the standard variables name an exporter and do not turn traces off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return False
    return any(os.environ.get(name) for name in SETTINGS)


def configure(service: str) -> None:
    """Export spans as the standard `OTEL_*` variables configure; does nothing without them.

    Raises:
        CannotStart: the variables enable traces, and OpenTelemetry is not installed.
    """
    if not is_enabled():
        return
    try:
        from opentelemetry import propagate  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )
    except ImportError as error:
        raise CannotStart(
            "the OTEL_* variables ask for traces, and OpenTelemetry is not installed; "
            "install it as docs/traces.md says, or unset them"
        ) from error
    # Without the baggage propagator: nothing uses baggage, and malformed baggage would be logged.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    provider = TracerProvider(
        shutdown_on_exit=False,
        resource=Resource.create(
            {"service.name": f"hogsend-{service}", "service.version": __version__}
        ),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(Tracing(provider))
    log.info("traces are exported")


def shut_down() -> None:
    """Export the remaining spans within `EXPORT_SECONDS`; call it at the end of the process."""
    if _in_use is None:
        return
    # OpenTelemetry's shutdown waits ten seconds for a collector that does not respond.
    exporting = threading.Thread(target=_in_use.provider.shutdown, daemon=True)
    use(None)
    exporting.start()
    exporting.join(EXPORT_SECONDS)
    if exporting.is_alive():
        metrics.FAILURES.labels("traces", "TimeoutError").inc()
        log.warning("the last traces were not exported", waited_seconds=EXPORT_SECONDS)
