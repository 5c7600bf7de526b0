"""How many requests were made within the last minute, by whom they are counted for.

Told by a clock that is never set: one that is, by an hour back, would refuse for an hour.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0


class RequestRates:
    """Allows so many requests within any minute."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `limit` requests a minute to each of those they are counted for."""
        self.limit = limit
        self._clock = clock
        self._made: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, who: str) -> bool:
        """Count a request; False, and not counted, when it exceeds the limit."""
        made = self._within_the_window(who)
        if len(made) >= self.limit:
            return False
        made.append(self._clock())
        return True

    def remaining(self, who: str) -> int:
        """How many more are allowed now."""
        return self.limit - len(self._within_the_window(who))

    def _within_the_window(self, who: str) -> deque[float]:
        made, since = self._made[who], self._clock() - WINDOW_SECONDS
        while made and made[0] <= since:
            made.popleft()
        return made
