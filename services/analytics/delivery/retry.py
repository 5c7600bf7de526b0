"""How often and when a delivery is tried again (contract 6.5)."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from services.analytics.settings import AnalyticsSettings


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one delivery, in seconds."""

    most: int = 8
    base: float = 5.0
    longest: float = 21_600.0

    @classmethod
    def of(cls, settings: AnalyticsSettings) -> Attempts:
        """Take the operator's limits."""
        return cls(
            most=settings.outbound_webhook_max_attempts,
            base=settings.outbound_webhook_base_delay_ms / 1000,
            longest=settings.outbound_webhook_max_delay_ms / 1000,
        )

    def delay_after(
        self,
        attempts: int,
        elapsed: float,
        retry_after: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds to wait after so many attempts; None when there is no further one.

        Args:
            attempts: attempts made so far.
            elapsed: seconds since the first one.
            retry_after: seconds PostHog asked to be left alone for.
            jitter: gives a number between 0 and 1.
        """
        if attempts >= self.most:
            return None
        delay = min(self.base * 2**attempts + self.base * jitter(), self.longest)
        delay = max(delay, min(retry_after or 0.0, self.longest))
        # All attempts fall within the longest delay: an event older than that is set aside.
        return delay if elapsed + delay <= self.longest else None
