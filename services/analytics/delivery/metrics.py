"""Prometheus metrics of delivery.

The label `destination` is the id of an outbound destination, and empty for other sources. There are
`MAX_DESTINATIONS` of them at most. The series of a destination are removed when this replica no
longer sends to it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prometheus_client import Counter, Gauge

from hogsend.contract.activity import Activity, AnalyticsActivity
from hogsend.service.activity import level, total

LABELS = ("source", "destination")

SETTLED = Counter("hogsend_delivery_events", "Settled events, by outcome", [*LABELS, "outcome"])
RETRIES = Counter("hogsend_delivery_retries", "Events that are tried again after a failure", LABELS)
WAITING = Gauge("hogsend_delivery_waiting", "Events in memory", LABELS)
LAG = Gauge("hogsend_delivery_lag", "Events that wait in the stream", LABELS)
LAG_SECONDS = Gauge("hogsend_delivery_lag_seconds", "Age of the oldest unsent event", LABELS)
DEAD_LETTERS = Counter(
    "hogsend_delivery_dead_letters", "Events that became dead letters", [*LABELS, "reason"]
)


def remove_series(source: str, destination: str) -> None:
    """Remove the series of a source that this replica no longer sends.

    The gauges are removed for every source, because they would keep an outdated value. The counters
    are removed only for destinations, so that no series outlives its destination.
    """
    metrics: list[Any] = [WAITING, LAG, LAG_SECONDS]
    if destination:
        metrics += [RETRIES, SETTLED, DEAD_LETTERS]
    for metric in metrics:
        with suppress(KeyError):
            metric.remove_by_labels({"source": source, "destination": destination})


def activity() -> Activity:
    """Report what this process has delivered."""
    return Activity(
        analytics=AnalyticsActivity(
            delivered=total(SETTLED, outcome="delivered"),
            failed=total(SETTLED, outcome="failed"),
            retried=total(RETRIES),
            waiting=int(level(LAG) + level(WAITING)),
        )
    )
