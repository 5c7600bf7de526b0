"""Prometheus metrics that every service shares, and the port they are served on."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

BUS_EVENTS = Counter("hogsend_bus_events", "Connection changes and errors of NATS", ["what"])
BUS_CONNECTED = Gauge("hogsend_bus_connected", "1 while NATS is connected")
RPC_SECONDS = Histogram(
    "hogsend_rpc_seconds",
    "Time to answer a request on the bus",
    ["verb", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
FAILURES = Counter(
    "hogsend_failures", "Failures that were handled, by place and kind", ["where", "kind"]
)
RETENTION_DELETED = Counter(
    "hogsend_retention_deleted", "Rows deleted because they were too old, by table", ["table"]
)


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


def serve(host: str, port: int) -> None:
    """Serve `/metrics` at an address; port 0 serves nothing."""
    if port:
        start_http_server(port, addr=host)
