"""The retry policy of webhooks (nodejs/src/cdp, utils/cdp-fetch.ts and hog-executor-async)."""

from __future__ import annotations

import random

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
FIRST_FAILURE = 300
"""The lowest status at which the webhook template throws. Not every failure is retried."""

ATTEMPTS = 3
"""`CDP_FETCH_RETRIES`: attempts in all, including the first."""

MAX_BACKOFF_SECONDS = 30.0


def attempts_allowed(status: int | None) -> int:
    """Return how many attempts a delivery gets, by its last status (None: no answer)."""
    return ATTEMPTS if status is None or status in RETRIED_STATUSES else 1


def delay(step: float, attempt: int) -> float:
    """Return the seconds until the attempt after number `attempt`, with jitter.

    It grows linearly. PostHog does not read the `Retry-After` of a webhook's answer.
    """
    return min(step * (attempt + random.random()), MAX_BACKOFF_SECONDS)  # noqa: S311 - no secret
