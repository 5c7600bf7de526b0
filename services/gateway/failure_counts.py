"""Counts failures by client, a minute at a time, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

WINDOW_SECONDS = 60.0
MAX_ENTRIES = 10_000
"""More than that are forgotten, the oldest first: who has so many addresses needs no counting."""


class FailureCounts:
    """How often each client failed within a minute."""

    def __init__(
        self,
        limit: int,
        *,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow `limit` failures a minute."""
        self._limit = limit
        self._max_entries = max_entries
        self._clock = clock
        self._counts: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """Of how many a count is kept."""
        return len(self._counts)

    def is_over(self, who: Hashable) -> bool:
        """Whether a client has failed too often within a minute."""
        began, count = self._counts.get(who, (0.0, 0))
        return count >= self._limit and self._clock() < began + WINDOW_SECONDS

    def add(self, who: Hashable) -> int:
        """Count a failure, and give how many that makes within this minute."""
        now = self._clock()
        began, count = self._counts.get(who, (now, 0))
        if now >= began + WINDOW_SECONDS:
            began, count = now, 0
            self._counts.pop(who, None)
        self._counts[who] = (began, count + 1)
        if len(self._counts) > self._max_entries:
            self._counts.popitem(last=False)
        return count + 1
