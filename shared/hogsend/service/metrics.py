"""Prometheus metrics that every service shares, and the port they are served on."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

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


def serve(host: str, port: int) -> None:
    """Serve `/metrics` at an address; port 0 serves nothing."""
    if port:
        start_http_server(port, addr=host)
