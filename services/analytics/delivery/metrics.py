"""Prometheus metrics of delivery.

`destination` is the id of an outbound destination, and empty for what is no destination. There are
at most `MAX_DESTINATIONS`; the series of one that is not sent to any more are removed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prometheus_client import Counter, Gauge

from hogsend.contract.activity import Activity, AnalyticsActivity
from hogsend.service.activity import level, total

OF = ("source", "destination")

SETTLED = Counter("hogsend_delivery_events", "Events done with, by outcome", [*OF, "outcome"])
RETRIES = Counter("hogsend_delivery_retries", "Events that are tried again after a failure", OF)
WAITING = Gauge("hogsend_delivery_waiting", "Events in memory", OF)
LAG = Gauge("hogsend_delivery_lag", "Events that wait in the stream", OF)
LAG_SECONDS = Gauge(
    "hogsend_delivery_lag_seconds", "How long the oldest event that was not sent yet has waited", OF
)
DEAD_LETTERS = Counter(
    "hogsend_delivery_dead_letters", "Events set aside instead of sent", [*OF, "reason"]
)


def forget(source: str, destination: str) -> None:
    """Remove the series of a source that this replica does not send any more.

    Those of destinations are removed altogether, so that no series outlives its destination; those
    of other sources only where they would go on saying what waits.
    """
    measured: list[Any] = [WAITING, LAG, LAG_SECONDS]
    if destination:
        measured += [RETRIES, SETTLED, DEAD_LETTERS]
    for metric in measured:
        with suppress(KeyError):
            metric.remove_by_labels({"source": source, "destination": destination})


def activity() -> Activity:
    """Say what this process did."""
    return Activity(
        analytics=AnalyticsActivity(
            delivered=total(SETTLED, outcome="delivered"),
            failed=total(SETTLED, outcome="failed"),
            retried=total(RETRIES),
            waiting=int(level(LAG) + level(WAITING)),
        )
    )
