"""Computes rates between two snapshots.

The rate of a service is known only if it is known for each of its processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Generic, TypeVar

from hogsend.contract.activity import (
    Activity,
    IngestActivity,
)
from services.gateway.activity.documents import Instances, Point

CLOCK_TOLERANCE = timedelta(seconds=2)
"""How much the clocks of two machines may differ."""

Part = TypeVar("Part")
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Reply:
    """The activity of one process since it started."""

    started: datetime
    activity: Activity


@dataclass(frozen=True)
class Snapshot:
    """The replies of all processes to one query."""

    at: datetime
    clock: float
    """The same time by a monotonic clock, in seconds."""
    replies: Mapping[str, Reply]
    """By the id of the process."""

    @property
    def instances(self) -> Instances:
        """Number of processes of each service that replied."""
        return Instances(
            gateway=len(_parts(self, lambda activity: activity.gateway)),
            ingest=len(_parts(self, lambda activity: activity.ingest)),
            analytics=len(_parts(self, lambda activity: activity.analytics)),
        )


def point(before: Snapshot | None, now: Snapshot) -> Point:
    """Compute the measurements of a snapshot, and its rates since the previous one."""
    gateway = _Compared.of(before, now, lambda activity: activity.gateway)
    ingest = _Compared.of(before, now, lambda activity: activity.ingest)
    analytics = _Compared.of(before, now, lambda activity: activity.analytics)
    return Point(
        webhooks=gateway.rate(lambda part: part.webhooks),
        refused=gateway.rate(lambda part: part.refused),
        spooled=gateway.joined(lambda part: part.spooled, sum),
        spool_bytes=gateway.joined(lambda part: part.spool_bytes, sum),
        stored=ingest.rate(lambda part: part.stored),
        duplicates=ingest.rate(lambda part: part.duplicates),
        announced=ingest.rate(lambda part: part.announced),
        dead_letters=ingest.rate(lambda part: part.dead_letters),
        p50_seconds=_quantile(0.5, ingest),
        p99_seconds=_quantile(0.99, ingest),
        # All replicas report on the same queue.
        waiting=ingest.joined(lambda part: part.waiting, max),
        waited_seconds=ingest.joined(lambda part: part.waited_seconds, max),
        delivered=analytics.rate(lambda part: part.delivered),
        failed=analytics.rate(lambda part: part.failed),
        retried=analytics.rate(lambda part: part.retried),
        undelivered=analytics.joined(lambda part: part.waiting, sum),
    )


class _Compared(Generic[Part]):
    """The processes of one service in two snapshots."""

    def __init__(
        self,
        levels: Sequence[Part],
        pairs: Sequence[tuple[Part | None, Part]] | None,
        seconds: float,
    ) -> None:
        self._levels = levels
        self.pairs = pairs
        self._seconds = seconds

    @classmethod
    def of(
        cls, before: Snapshot | None, now: Snapshot, part: Callable[[Activity], Part | None]
    ) -> _Compared[Part]:
        """Pair the processes of both snapshots.

        If a process replied before but not now, nothing is known: a sum without it would be too
        small.
        """
        current = _parts(now, part)
        previous = _parts(before, part) if before is not None else {}
        if not current or previous.keys() - current.keys():
            return cls([], None, 1)
        levels = list(current.values())
        if before is None:
            return cls(levels, None, 1)
        recent = before.at - CLOCK_TOLERANCE
        # A process that ran before but did not reply has no previous count, so no rate is known.
        if any(
            process not in previous and now.replies[process].started < recent for process in current
        ):
            return cls(levels, None, 1)
        pairs = [(previous.get(process), activity) for process, activity in current.items()]
        return cls(levels, pairs, now.clock - before.clock)

    def joined(
        self, value: Callable[[Part], Number], join: Callable[[list[Number]], Number]
    ) -> Number | None:
        """Combine a value of all processes by `join`, such as their sum."""
        return join([value(part) for part in self._levels]) if self._levels else None

    def rate(self, count: Callable[[Part], int]) -> float | None:
        """Return the rate of a counter per second, summed over all processes."""
        if self.pairs is None:
            return None
        increase = sum(count(now) - (count(before) if before else 0) for before, now in self.pairs)
        return round(increase / self._seconds, 3)


def _parts(snapshot: Snapshot, part: Callable[[Activity], Part | None]) -> dict[str, Part]:
    """Return the activity of the processes of one service."""
    parts = {process: part(reply.activity) for process, reply in snapshot.replies.items()}
    return {process: activity for process, activity in parts.items() if activity is not None}


def _quantile(share: float, ingest: _Compared[IngestActivity]) -> float | None:
    """Estimate a quantile like Prometheus, by linear interpolation within its bucket."""
    if ingest.pairs is None:
        return None
    bounds = ingest.pairs[0][1].announced_seconds.bounds
    counts = [0] * (len(bounds) + 1)
    for before, now in ingest.pairs:
        for sign, activity in ((1, now), (-1, before)):
            if activity is None:
                continue
            histogram = activity.announced_seconds
            if histogram.bounds != bounds or len(histogram.counts) != len(counts):
                # Replicas of two versions have different buckets.
                return None
            counts = [
                count + sign * added for count, added in zip(counts, histogram.counts, strict=True)
            ]
    return _interpolated(bounds, counts, share * counts[-1]) if counts[-1] > 0 else None


def _interpolated(bounds: Sequence[float], counts: Sequence[int], rank: float) -> float:
    edges = zip([0.0, *bounds], [0, *counts], strict=False)
    for (low, below), (high, upto) in pairwise(edges):
        if upto >= rank:
            return round(low + (high - low) * (rank - below) / max(upto - below, 1), 4)
    # Above the highest bound.
    return bounds[-1] if bounds else 0.0
