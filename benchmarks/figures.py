"""Results of benchmarks, and statistics."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of the table of results. `goal` is a minimum, or with a leading `<` a maximum."""

    name: str
    value: str
    goal: str = ""
    details: dict[str, float] = {}


def median(values: Sequence[float]) -> float:
    """The median, on which a single disturbed round has little effect."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
