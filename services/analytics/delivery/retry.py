"""When a delivery is tried again, and when no more (contract 6.5)."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential delays with jitter, within a limit of attempts and of time."""

    max_attempts: int = 8
    base_delay: float = 5.0
    """Seconds, doubled with every attempt."""
    max_delay: float = 21_600.0
    """Seconds: the longest delay, and how long after its first attempt an event is still tried."""

    def delay_after(
        self,
        attempts: int,
        elapsed: float,
        retry_after: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds to wait before the next attempt; None when there is none.

        Args:
            attempts: attempts made so far.
            elapsed: seconds since the first attempt.
            retry_after: seconds PostHog asked to wait.
            jitter: gives a number between 0 and 1.
        """
        if attempts >= self.max_attempts:
            return None
        delay = min(self.base_delay * 2**attempts + self.base_delay * jitter(), self.max_delay)
        delay = max(delay, min(retry_after or 0.0, self.max_delay))
        return delay if elapsed + delay <= self.max_delay else None
