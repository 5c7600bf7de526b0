"""Combines the metrics of several processes: each sample gets a label with its worker's number.

The samples are not added up. A restarted worker counts from 0 again. Prometheus handles that for
the counter of one worker, but would read a drop of the sum as a restart of all workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import Counter, Gauge, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

LABEL = "worker"

EXPECTED = Gauge("hogsend_gateway_workers", "Processes of the gateway that should run")
UP = Gauge("hogsend_gateway_workers_up", "Processes of the gateway that serve")
RESTARTS = Counter("hogsend_gateway_worker_restarts", "Workers that ended and were started again")

_PARENT_METRICS = frozenset(
    {"hogsend_gateway_workers", "hogsend_gateway_workers_up", "hogsend_gateway_worker_restarts"}
)
"""Metrics that only the parent reports."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value of a metric, with its labels."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The samples of one metric."""

    name: str
    documentation: str
    type: str
    samples: list[Sample]


def families_of(registry: Collector, *, parent: bool) -> list[Family]:
    """Return the current metrics of a process.

    Args:
        registry: the process's metrics.
        parent: True returns only the metrics of a parent, False only those of a worker.
    """
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
        if (metric.name in _PARENT_METRICS) is parent
    ]


class Collected(Collector):
    """The metrics of the parent and its workers, combined into one response."""

    def __init__(self, own: Iterable[Family], workers: Mapping[int, Iterable[Family]]) -> None:
        """Combine metrics.

        Args:
            own: the parent's, which get no `worker` label.
            workers: those of each worker, by its number.
        """
        self._families: dict[str, Metric] = {}
        for family in own:
            self._add(family, {})
        for number in sorted(workers):
            for family in workers[number]:
                self._add(family, {LABEL: str(number)})

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once, with the samples of all workers."""
        yield from self._families.values()

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self)

    def _add(self, family: Family, labels: Mapping[str, str]) -> None:
        metric = self._families.get(family.name)
        if metric is None:
            metric = Metric(family.name, family.documentation, family.type)
            self._families[family.name] = metric
        for sample in family.samples:
            metric.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
