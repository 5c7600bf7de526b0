"""When a webhook is tried again, and when it is given up (nodejs/src/cdp/utils/cdp-fetch.ts)."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
TOO_MANY = 429
FIRST_FAILURE = 300
"""From here on the webhook template throws; below 400 and unlisted nothing is retried."""

ATTEMPTS = 3
"""`CDP_FETCH_RETRIES`: all attempts, the first included."""

RATE_LIMITED_ATTEMPTS = 6
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 300.0


def attempts_allowed(status: int | None) -> int:
    """How many attempts a delivery gets whose last one ended with `status` (None: no answer)."""
    if status is None:
        return ATTEMPTS
    if status == TOO_MANY:
        return RATE_LIMITED_ATTEMPTS
    return ATTEMPTS if status in RETRIED_STATUSES else 1


def delay(step: float, attempt: int, status: int | None, retry_after: float | None) -> float:
    """Seconds until the next attempt after number `attempt`, with jitter.

    Linear, exponential for 429; what the receiver asks for wins when it is longer.
    """
    growth = 2 ** (attempt - 1) if status == TOO_MANY else attempt
    jitter = random.random()  # noqa: S311 - not a secret
    backoff = min(step * (growth + jitter), MAX_BACKOFF_SECONDS)
    if retry_after is None:
        return backoff
    spread = random.random() * min(retry_after, MAX_BACKOFF_SECONDS)  # noqa: S311
    return max(backoff, retry_after + spread)


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """What `Retry-After` asks for, at most five minutes; None when it says nothing useful."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None
