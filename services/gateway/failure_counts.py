"""Counts failures of each client within a minute, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

WINDOW_SECONDS = 60.0
MAX_ENTRIES = 10_000
"""Clients to remember. Beyond it the oldest are dropped: an attacker with so many addresses could
not be stopped by counting them."""


class FailureCounts:
    """The number of failures of each client within a minute."""

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
        """Return how many clients have a count."""
        return len(self._counts)

    def is_over(self, client: Hashable) -> bool:
        """Whether a client has failed as often as the limit within a minute."""
        started_at, count = self._counts.get(client, (0.0, 0))
        return count >= self._limit and self._clock() < started_at + WINDOW_SECONDS

    def add(self, client: Hashable) -> int:
        """Count a failure, and return the client's failures within this minute."""
        now = self._clock()
        started_at, count = self._counts.get(client, (now, 0))
        if now >= started_at + WINDOW_SECONDS:
            started_at, count = now, 0
            self._counts.pop(client, None)
        self._counts[client] = (started_at, count + 1)
        if len(self._counts) > self._max_entries:
            self._counts.popitem(last=False)
        return count + 1
