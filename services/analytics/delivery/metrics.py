"""Prometheus metrics of delivery."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SETTLED = Counter("hogsend_delivery_events", "Events done with, by outcome", ["source", "outcome"])
WAITING = Gauge("hogsend_delivery_waiting", "Events in memory", ["source"])
LAG = Gauge("hogsend_delivery_lag", "Events that wait in the stream", ["source"])
DEAD_LETTERS = Counter(
    "hogsend_delivery_dead_letters", "Events set aside instead of sent", ["source", "reason"]
)
