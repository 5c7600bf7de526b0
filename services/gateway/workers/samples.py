"""Metrics of several processes in one answer: every sample says which worker it is from.

They are not added up. A worker that is restarted counts from nothing again, and Prometheus knows
how to go on with a counter that does; a sum that falls it would take for a restart of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import Counter, Gauge, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

LABEL = "worker"

WANTED = Gauge("hogsend_gateway_workers", "Processes of the gateway that should run")
UP = Gauge("hogsend_gateway_workers_up", "Processes of the gateway that serve")
RESTARTS = Counter("hogsend_gateway_worker_restarts", "Workers that ended and were started again")

_PARENTS = frozenset(
    {"hogsend_gateway_workers", "hogsend_gateway_workers_up", "hogsend_gateway_worker_restarts"}
)
"""Metrics that only the parent knows."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The samples of one metric."""

    name: str
    documentation: str
    type: str
    samples: list[Sample]


def families_of(registry: Collector, *, parents: bool) -> list[Family]:
    """Take what a process has counted so far.

    Args:
        registry: where it counts.
        parents: whether it is the parent: that gives what only it knows, and a worker the rest.
    """
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
        if (metric.name in _PARENTS) is parents
    ]


class Collected(Collector):
    """The families of several workers, put together for one answer."""

    def __init__(self, own: Iterable[Family], workers: Mapping[int, Iterable[Family]]) -> None:
        """Take families.

        Args:
            own: of the parent; they carry no worker.
            workers: of each worker, by its number.
        """
        self._families: dict[str, Metric] = {}
        for family in own:
            self._add(family, {})
        for number in sorted(workers):
            for family in workers[number]:
                self._add(family, {LABEL: str(number)})

    def collect(self) -> Iterator[Metric]:
        """Give every metric once, with the samples of all workers."""
        yield from self._families.values()

    def text(self) -> bytes:
        """Write them as Prometheus reads them."""
        return generate_latest(self)

    def _add(self, family: Family, labels: Mapping[str, str]) -> None:
        metric = self._families.get(family.name)
        if metric is None:
            metric = Metric(family.name, family.documentation, family.type)
            self._families[family.name] = metric
        for sample in family.samples:
            metric.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
