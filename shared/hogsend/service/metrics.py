"""Prometheus metrics that every service shares, and the port they are served on."""

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

# They would double the number of series, and are of no use.
disable_created_metrics()  # type: ignore[no-untyped-call]

BUILD_INFO = Gauge("hogsend_build_info", "1; which version runs is in the label", ["version"])
BUILD_INFO.labels(__version__).set(1)

BUS_EVENTS = Counter(
    "hogsend_bus_events",
    "Connection changes, errors of NATS, and reasons why a consumer cannot be read",
    ["what"],
)
BUS_CONNECTED = Gauge("hogsend_bus_connected", "1 while NATS is connected")
RPC_SECONDS = Histogram(
    "hogsend_rpc_seconds",
    "Time to answer a request on the bus",
    ["verb", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
RPC_REQUEST_BYTES = Gauge(
    "hogsend_rpc_request_bytes",
    "Memory that requests in work take once decoded, about, without small ones",
)
STREAM_MESSAGES = Gauge(
    "hogsend_stream_messages",
    "Messages in a stream; in DEADLETTER those that wait for an operator",
    ["stream"],
)
STREAM_BYTES = Gauge("hogsend_stream_bytes", "Bytes that a stream takes", ["stream"])
STREAM_LIMIT_BYTES = Gauge(
    "hogsend_stream_limit_bytes", "Bytes that a stream may take; absent without a limit", ["stream"]
)
DATABASE_CONNECTIONS = Gauge(
    "hogsend_database_connections", "Connections of the pool to PostgreSQL", ["state"]
)
DATABASE_CONNECTIONS_LIMIT = Gauge(
    "hogsend_database_connections_limit", "Connections that the pool may have"
)
POSTHOG_REQUESTS = Counter(
    "hogsend_posthog_requests",
    "Requests to PostHog, by area of its API and status; `error` without an answer",
    ["area", "status"],
)
FAILURES = Counter(
    "hogsend_failures",
    "Failures, by place and kind; all but those of the place `unhandled` were handled",
    ["where", "kind"],
)
RETENTION_DELETED = Counter(
    "hogsend_retention_deleted", "Rows deleted because they were too old, by table", ["table"]
)


def begin_at_zero(counter: Counter, *values: str) -> None:
    """Serve what a counter has for these values of its label before anything is counted.

    A series that begins with its first count has not grown by it: `increase()` would miss that one.
    """
    for value in values:
        counter.labels(value)


class DeprecatedName(Collector):
    """Exposes a counter under the name it had before too, for dashboards and alerts."""

    def __init__(self, counter: Counter, name: str) -> None:
        self._counter = counter
        self._name = name
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """Give the counter's samples under the deprecated name."""
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
    """Serve what `registry` gives as `/metrics` at an address; port 0 serves nothing.

    A port that is taken is no reason to process nothing: the log says so.
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
