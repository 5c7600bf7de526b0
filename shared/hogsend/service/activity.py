"""Reads values of this process' metrics, for the activity in its `$SRV.STATS`."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, Metric

from hogsend.contract.activity import Distribution


def total(counter: Counter, **labels: str) -> int:
    """Sum a counter over all its series, or over those with the given labels."""
    return int(_sum(counter.collect(), "_total", labels))


def level(gauge: Gauge, **labels: str) -> float:
    """Sum a gauge over all its series, or over those with the given labels."""
    return _sum(gauge.collect(), "", labels)


def distribution(histogram: Histogram) -> Distribution:
    """Return the bucket bounds and counts of a histogram without labels."""
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
