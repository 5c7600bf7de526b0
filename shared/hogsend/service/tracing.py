"""Traces: a webhook from HTTP to its subscriber, a credential change to its consumers.

Spans are made when the standard `OTEL_*` variables name an exporter, and cost nothing otherwise: no
middleware is added, and OpenTelemetry is not even imported. The context travels as W3C
`traceparent` in message headers (https://www.w3.org/TR/trace-context/).

FastStream's own telemetry middleware begins a new trace for every batch and links it to the
messages' traces. Here each message of a batch has a span in the trace it came with.
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
"""How long the end of a process waits for its last spans to be exported."""

SETTINGS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


class Consumed(Protocol):
    """A message that came from a stream, with the headers it carries."""

    headers: dict[str, str] | None
    subject: str


class Tracing:
    """Makes spans, and carries their context over the bus."""

    def __init__(self, provider: TracerProvider) -> None:
        """Make spans with `provider`."""
        from opentelemetry import trace  # noqa: PLC0415 - only where traces are wanted
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._trace = trace
        self._provider = provider
        self._propagator = TraceContextTextMapPropagator()
        self._tracer: Tracer = provider.get_tracer(NAME, __version__)

    @property
    def provider(self) -> TracerProvider:
        """Where the spans come from."""
        return self._provider

    def inject(self, headers: dict[str, str]) -> None:
        """Add the context of the span at hand to headers; what they carry stays without one."""
        self._propagator.inject(headers)

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str], *, kind: str) -> Iterator[Span]:
        """Make a span for the length of the block, in the trace that `headers` name.

        Args:
            name: what happens.
            headers: of the message it happens with; without a trace in them a new one begins.
            kind: `SERVER`, `CONSUMER`, `PRODUCER` or `INTERNAL`.
        """
        started = self._tracer.start_span(
            name, context=self._context(headers), kind=self._trace.SpanKind[kind]
        )
        with (
            self._ended(started) as span,
            # The text of an error may quote what was sent.
            self._trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield span

    @contextmanager
    def consumed(self, messages: Sequence[Consumed]) -> Iterator[None]:
        """Make a span for each message of a batch; its headers name it meanwhile."""
        with ExitStack() as stack:
            for message in messages:
                headers = dict(message.headers or {})
                span = stack.enter_context(
                    self._ended(
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
        """Make a span in each of several traces for one thing that is done for all of them."""
        with ExitStack() as stack:
            for traceparent in traceparents:
                if traceparent is not None:
                    context = self._context({TRACEPARENT: traceparent})
                    stack.enter_context(self._ended(self._tracer.start_span(name, context=context)))
            yield

    @contextmanager
    def _ended(self, span: Span) -> Iterator[Span]:
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
    """Let this process make spans with `tracing`; None turns them off."""
    global _in_use  # noqa: PLW0603 - one a process, as OpenTelemetry's own provider is
    _in_use = tracing


def in_use() -> Tracing | None:
    """What this process makes spans with; None when it makes none."""
    return _in_use


def inject(headers: dict[str, str]) -> None:
    """Add the context of the span at hand to the headers of what is kept and published later."""
    if _in_use is not None:
        _in_use.inject(headers)


@contextmanager
def stage(name: str, traceparents: Iterable[str | None]) -> Iterator[None]:
    """Make a span in each of several traces, where traces are wanted."""
    if _in_use is None:
        yield
        return
    with _in_use.stage(name, traceparents):
        yield


def is_wanted() -> bool:
    """Whether the standard variables name an exporter and do not turn traces off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return False
    return any(os.environ.get(name) for name in SETTINGS)


def configure(service: str) -> None:
    """Send spans where the standard `OTEL_*` variables say; nothing without them.

    Raises:
        CannotStart: traces are wanted, and OpenTelemetry is not installed.
    """
    if not is_wanted():
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
    # Nothing uses a client's baggage, and each that is malformed would be a line in the log.
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
    """Export what is left, for `EXPORT_SECONDS` at most; call it at the end of the process."""
    if _in_use is None:
        return
    # A collector that does not answer holds OpenTelemetry's shutdown for ten seconds.
    exporting = threading.Thread(target=_in_use.provider.shutdown, daemon=True)
    use(None)
    exporting.start()
    exporting.join(EXPORT_SECONDS)
    if exporting.is_alive():
        metrics.FAILURES.labels("traces", "TimeoutError").inc()
        log.warning("the last traces were not exported", waited_seconds=EXPORT_SECONDS)
