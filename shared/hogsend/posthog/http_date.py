"""Dates in headers of answers (RFC 9110, 5.6.7), read without trust."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_http_date(header: str) -> datetime | None:
    """The moment, in UTC where it names no zone; None for what is not a date."""
    try:
        moment = parsedate_to_datetime(header)
    # A date out of range is an OverflowError, whichever of its numbers is too large.
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
