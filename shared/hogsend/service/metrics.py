"""Prometheus metrics that all services have, and the HTTP server for them."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from prometheus_client import (
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from hogsend import __version__

log = structlog.get_logger(__name__)

# `_created` series would double the number of series, and nothing here uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]

BUILD_INFO = Gauge("hogsend_build_info", "Always 1; the label is the running version", ["version"])
BUILD_INFO.labels(__version__).set(1)

BUS_EVENTS = Counter(
    "hogsend_bus_events",
    "Changes of the connection to NATS, errors that NATS reported, and failures to read a consumer",
    ["what"],
)
BUS_CONNECTED = Gauge("hogsend_bus_connected", "1 while NATS is connected")
RPC_SECONDS = Histogram(
    "hogsend_rpc_seconds",
    "Time that a handler took for a request over NATS",
    ["verb", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
RPC_REQUEST_BYTES = Gauge(
    "hogsend_rpc_request_bytes",
    "Estimated memory of the decoded requests in progress, without those of at most 16 KiB",
)
STREAM_MESSAGES = Gauge(
    "hogsend_stream_messages",
    "Messages in a stream; those in DEADLETTER wait for an operator",
    ["stream"],
)
STREAM_BYTES = Gauge("hogsend_stream_bytes", "Bytes that a stream stores", ["stream"])
STREAM_LIMIT_BYTES = Gauge(
    "hogsend_stream_limit_bytes", "Maximum bytes of a stream; absent without a limit", ["stream"]
)
DATABASE_CONNECTIONS = Gauge(
    "hogsend_database_connections",
    "Connections of the PostgreSQL pool",
    ["state"],
)
DATABASE_CONNECTIONS_LIMIT = Gauge(
    "hogsend_database_connections_limit", "Maximum number of connections in the PostgreSQL pool"
)
POSTHOG_REQUESTS = Counter(
    "hogsend_posthog_requests",
    "Requests to PostHog, by area of its API and HTTP status; `error` if there was no response",
    ["area", "status"],
)
FAILURES = Counter(
    "hogsend_failures",
    "Failures, by the place that handled them and the kind of error; `unhandled` if none did",
    ["where", "kind"],
)
RETENTION_DELETED = Counter(
    "hogsend_retention_deleted", "Rows that were deleted because of their age, by table", ["table"]
)


def initialize_at_zero(counter: Counter, *values: str) -> None:
    """Create the series of a counter for these label values, so that each starts at 0.

    Prometheus sees no increase when a series starts at 1: `increase()` would miss the first count.
    """
    for value in values:
        counter.labels(value)


class DeprecatedName(Collector):
    """Exposes a renamed counter under its previous name, too, for dashboards and alerts."""

    def __init__(self, counter: Counter, name: str) -> None:
        self._counter = counter
        self._name = name
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return the counter's samples under the deprecated name."""
        for counted in self._counter.collect():
            deprecated = CounterMetricFamily(
                self._name, f"DEPRECATED, use {counted.name}_total. {counted.documentation}"
            )
            deprecated.samples = [
                sample._replace(name=sample.name.replace(counted.name, self._name, 1))
                for sample in counted.samples
            ]
            yield deprecated


def serve(host: str, port: int, registry: Collector = REGISTRY) -> None:
    """Serve the metrics of `registry` at `/metrics` on an address; port 0 turns this off.

    If the port is in use, a warning is logged, and the service runs without metrics.
    """
    if not port:
        return
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        FAILURES.labels("metrics", type(error).__name__).inc()
        log.warning(
            "metrics are not served",
            address=f"{host}:{port}",
            reason=error.strerror or str(error),
            fix="set METRICS_PORT to a free port, or to 0",
        )
