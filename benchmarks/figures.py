"""What a benchmark found."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the table; `goal` is the least, or with a leading `<` the most, it should be."""

    name: str
    value: str
    goal: str = ""
    details: dict[str, float] = {}


def median(values: Sequence[float]) -> float:
    """Middle value, so that one disturbed round does not decide."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Value that `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
