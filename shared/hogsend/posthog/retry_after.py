"""Parses the header `Retry-After` (RFC 9110, 10.2.3), which may contain anything."""

from __future__ import annotations

import re
from datetime import datetime

from hogsend.posthog.http_date import read_http_date

MAX_SECONDS = 3600.0
"""Upper limit of a wait in seconds. Some proxies send dates of another century."""

_DELAY = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now`, between 0 and `MAX_SECONDS`.

    None for a missing or malformed header: a negative number, no date, or several values.
    """
    text = (header or "").strip()
    if _DELAY.fullmatch(text):
        return min(float(text), MAX_SECONDS)
    moment = read_http_date(text)
    if moment is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), MAX_SECONDS)
