"""How much of the machine others had while something was measured."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Self

import psutil


class Others:
    """What is not of this run, during the block."""

    def __init__(self) -> None:
        """Nothing is known before the end."""
        self.share = 0.0
        """Of all CPU time there was, 0 to 1: what neither this process nor its children had."""

    def __enter__(self) -> Self:
        """Look at the machine as it is."""
        self._busy, self._own, self._begun = _busy_seconds(), _own_seconds(), time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        """Look again."""
        all_of_it = (time.perf_counter() - self._begun) * (psutil.cpu_count() or 1)
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        self.share = min(max(others / all_of_it, 0.0), 1.0)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _own_seconds() -> float:
    mine = psutil.Process()
    spent = 0.0
    for one in [mine, *mine.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            # Those that have ended count with their parent.
            spent += times.user + times.system + times.children_user + times.children_system
    return spent
