"""Parses dates in HTTP headers (RFC 9110, 5.6.7), which may contain anything."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_http_date(header: str) -> datetime | None:
    """Parse a date. A date without a time zone is in UTC. None if the text is no date."""
    try:
        moment = parsedate_to_datetime(header)
    # Python raises OverflowError for a date out of range.
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
