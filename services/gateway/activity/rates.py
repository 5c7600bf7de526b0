"""Rates between two askings. What is not known for every process of a service is not known."""

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

CLOCKS_DIFFER = timedelta(seconds=2)

Part = TypeVar("Part")
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Answer:
    """What one process said: everything since it started."""

    started: datetime
    activity: Activity


@dataclass(frozen=True)
class Asking:
    """Who answered what at one time."""

    at: datetime
    clock: float
    """The same in seconds of a monotonic clock."""
    answers: Mapping[str, Answer]
    """By process."""

    @property
    def instances(self) -> Instances:
        """How many processes of each service answered."""
        return Instances(
            gateway=len(_parts(self, lambda activity: activity.gateway)),
            ingest=len(_parts(self, lambda activity: activity.ingest)),
            analytics=len(_parts(self, lambda activity: activity.analytics)),
        )


def point(before: Asking | None, now: Asking) -> Point:
    """Compare an asking with the one before it."""
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
        # Every replica looks at the same queue.
        waiting=ingest.joined(lambda part: part.waiting, max),
        waited_seconds=ingest.joined(lambda part: part.waited_seconds, max),
        delivered=analytics.rate(lambda part: part.delivered),
        failed=analytics.rate(lambda part: part.failed),
        retried=analytics.rate(lambda part: part.retried),
        undelivered=analytics.joined(lambda part: part.waiting, sum),
    )


class _Compared(Generic[Part]):
    """The processes of one service at two times."""

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
        cls, before: Asking | None, now: Asking, part: Callable[[Activity], Part | None]
    ) -> _Compared[Part]:
        """Find them; a process that is silent now makes the sum of the others too small."""
        answered = _parts(now, part)
        earlier = _parts(before, part) if before is not None else {}
        if not answered or earlier.keys() - answered.keys():
            return cls([], None, 1)
        levels = list(answered.values())
        if before is None:
            return cls(levels, None, 1)
        recent = before.at - CLOCKS_DIFFER
        # One that was there and did not answer counts again from its next answer on.
        if any(
            process not in earlier and now.answers[process].started < recent for process in answered
        ):
            return cls(levels, None, 1)
        pairs = [(earlier.get(process), activity) for process, activity in answered.items()]
        return cls(levels, pairs, now.clock - before.clock)

    def joined(
        self, value: Callable[[Part], Number], join: Callable[[list[Number]], Number]
    ) -> Number | None:
        """Join a value of every process."""
        return join([value(part) for part in self._levels]) if self._levels else None

    def rate(self, count: Callable[[Part], int]) -> float | None:
        """How often something was counted in a second."""
        if self.pairs is None:
            return None
        grown = sum(count(now) - (count(before) if before else 0) for before, now in self.pairs)
        return round(grown / self._seconds, 3)


def _parts(asking: Asking, part: Callable[[Activity], Part | None]) -> dict[str, Part]:
    found = {process: part(answer.activity) for process, answer in asking.answers.items()}
    return {process: one for process, one in found.items() if one is not None}


def _quantile(share: float, ingest: _Compared[IngestActivity]) -> float | None:
    """Estimate, as Prometheus does, within the bucket that holds it."""
    if ingest.pairs is None:
        return None
    bounds = ingest.pairs[0][1].announced_seconds.bounds
    counts = [0] * (len(bounds) + 1)
    for before, now in ingest.pairs:
        for sign, activity in ((1, now), (-1, before)):
            if activity is None:
                continue
            seen = activity.announced_seconds
            if seen.bounds != bounds or len(seen.counts) != len(counts):
                # Replicas of two versions.
                return None
            counts = [count + sign * one for count, one in zip(counts, seen.counts, strict=True)]
    return _within(bounds, counts, share * counts[-1]) if counts[-1] > 0 else None


def _within(bounds: Sequence[float], counts: Sequence[int], rank: float) -> float:
    edges = zip([0.0, *bounds], [0, *counts], strict=False)
    for (low, below), (high, upto) in pairwise(edges):
        if upto >= rank:
            return round(low + (high - low) * (rank - below) / max(upto - below, 1), 4)
    # Longer than all bounds.
    return bounds[-1] if bounds else 0.0
