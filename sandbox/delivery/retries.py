"""The retry policy of webhooks (nodejs/src/cdp, utils/cdp-fetch.ts and hog-executor-async)."""

from __future__ import annotations

import random

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
FIRST_FAILURE = 300
"""Lowest status that the webhook template treats as a failure. Not every failure is retried."""

ATTEMPTS = 3
"""`CDP_FETCH_RETRIES`: maximum number of attempts, including the first."""

MAX_BACKOFF_SECONDS = 30.0


def attempts_allowed(status: int | None) -> int:
    """Maximum number of attempts after a last status; None means that there was no response."""
    return ATTEMPTS if status is None or status in RETRIED_STATUSES else 1


def delay(step: float, attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, with jitter.

    The delay grows linearly. PostHog ignores `Retry-After` in the responses of webhooks.
    """
    return min(step * (attempt + random.random()), MAX_BACKOFF_SECONDS)  # noqa: S311 - no secret
