"""Limits the requests within any minute, counted by a key such as the scope of an API key.

The clock is monotonic. If the wall clock were used and set back by an hour, requests would be
refused for an hour.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0


class RequestRates:
    """A sliding window of one minute for each key."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `limit` requests a minute for each key."""
        self.limit = limit
        self._clock = clock
        self._requests: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, key: str) -> bool:
        """Count a request. Return False, without counting it, if it exceeds the limit."""
        requests = self._within_window(key)
        if len(requests) >= self.limit:
            return False
        requests.append(self._clock())
        return True

    def remaining(self, key: str) -> int:
        """Return how many more requests are allowed now."""
        return self.limit - len(self._within_window(key))

    def _within_window(self, key: str) -> deque[float]:
        requests, since = self._requests[key], self._clock() - WINDOW_SECONDS
        while requests and requests[0] <= since:
            requests.popleft()
        return requests
