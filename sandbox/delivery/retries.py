"""The retry policy of webhooks (nodejs/src/cdp/utils/cdp-fetch.ts)."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from hogsend.posthog import retry_after

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
TOO_MANY = 429
FIRST_FAILURE = 300
"""The lowest status at which the webhook template throws. Not every failure is retried."""

ATTEMPTS = 3
"""`CDP_FETCH_RETRIES`: attempts in all, including the first."""

RATE_LIMITED_ATTEMPTS = 6
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 300.0


def attempts_allowed(status: int | None) -> int:
    """Return how many attempts a delivery gets, by its last status (None: no answer)."""
    if status is None:
        return ATTEMPTS
    if status == TOO_MANY:
        return RATE_LIMITED_ATTEMPTS
    return ATTEMPTS if status in RETRIED_STATUSES else 1


def delay(step: float, attempt: int, status: int | None, asked: float | None) -> float:
    """Return the seconds until the attempt after number `attempt`, with jitter.

    It grows linearly, for 429 exponentially. A longer `Retry-After` takes precedence.
    """
    growth = 2 ** (attempt - 1) if status == TOO_MANY else attempt
    jitter = random.random()  # noqa: S311 - not a secret
    backoff = min(step * (growth + jitter), MAX_BACKOFF_SECONDS)
    if asked is None:
        return backoff
    spread = random.random() * min(asked, MAX_BACKOFF_SECONDS)  # noqa: S311
    return max(backoff, asked + spread)


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Parse `Retry-After`, limited to five minutes; None if it is absent, invalid or past."""
    seconds = retry_after.retry_after_seconds(header, datetime.fromtimestamp(now, UTC))
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds else None
