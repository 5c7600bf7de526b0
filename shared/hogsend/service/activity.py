"""Reads metrics of this process back, for what `$SRV.STATS` says of its activity."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, Metric

from hogsend.contract.activity import Distribution


def total(counter: Counter, **labels: str) -> int:
    """Sum a counter over its labels, or over the series with these ones."""
    return int(_sum(counter.collect(), "_total", labels))


def level(gauge: Gauge, **labels: str) -> float:
    """Sum a gauge over its labels, or over the series with these ones."""
    return _sum(gauge.collect(), "", labels)


def distribution(histogram: Histogram) -> Distribution:
    """Give a histogram that has no labels."""
    (metric,) = histogram.collect()
    buckets = [sample for sample in metric.samples if sample.name.endswith("_bucket")]
    bounds = [float(sample.labels["le"]) for sample in buckets]
    return Distribution(bounds=bounds[:-1], counts=[int(sample.value) for sample in buckets])


def _sum(metrics: Iterable[Metric], suffix: str, labels: dict[str, str]) -> float:
    return sum(
        sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == metric.name + suffix and labels.items() <= sample.labels.items()
    )
