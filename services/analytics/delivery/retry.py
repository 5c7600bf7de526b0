"""The retry policy of deliveries (contract 6.5)."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with jitter, with a limit on attempts and on total time."""

    max_attempts: int = 8
    base_delay: float = 5.0
    """Seconds, doubled with every attempt."""
    max_delay: float = 21_600.0
    """Seconds: the longest delay, and the longest time between the first and the last attempt."""

    def delay_after(
        self,
        attempts: int,
        elapsed: float,
        retry_after: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None when there is none.

        Args:
            attempts: attempts made so far.
            elapsed: seconds since the first attempt.
            retry_after: seconds PostHog asked to wait.
            jitter: returns a number between 0 and 1.
        """
        if attempts >= self.max_attempts:
            return None
        delay = min(self.base_delay * 2**attempts + self.base_delay * jitter(), self.max_delay)
        delay = max(delay, min(retry_after or 0.0, self.max_delay))
        return delay if elapsed + delay <= self.max_delay else None
