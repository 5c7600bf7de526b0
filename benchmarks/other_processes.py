"""The CPU share of other processes of the machine during a measurement."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Self

import psutil


class OtherProcesses:
    """Measures the CPU time of processes that do not belong to this run, during a block."""

    def __init__(self) -> None:
        """Set the result to 0 until the block ends."""
        self.cpu_share = 0.0
        """Share of all CPU time (0 to 1) that neither this process nor its children used."""

    def __enter__(self) -> Self:
        """Start the measurement."""
        self._busy, self._own, self._started = _busy_seconds(), _own_seconds(), time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        """Finish the measurement, and set `cpu_share`."""
        available = (time.perf_counter() - self._started) * (psutil.cpu_count() or 1)
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        self.cpu_share = min(max(others / available, 0.0), 1.0)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _own_seconds() -> float:
    this = psutil.Process()
    spent = 0.0
    for process in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # The time of processes that have ended is in their parent's.
            spent += times.user + times.system + times.children_user + times.children_system
    return spent
