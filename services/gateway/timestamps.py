"""Parses and formats times in requests and responses: ISO 8601 text with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.moments import parse_moment

Timestamp = Annotated[
    str, msgspec.Meta(description="ISO 8601 date and time with `Z` or an offset, upper case.")
]

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_timestamp(text: str, field: str) -> datetime:
    """Parse the value of a request's `field`, and return it in UTC.

    Raises:
        InvalidRequest: `text` is not a timestamp.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise InvalidRequest(f"{field} must be an ISO 8601 date and time with Z or offset")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field} is not a date in the calendar") from None


def parse_happened(text: str, field: str) -> datetime | None:
    """Parse the time of an event. Return None if it is out of range (`moments.utc_in_range`).

    Raises:
        InvalidRequest: `text` is not a timestamp.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise InvalidRequest(f"{field} must be an ISO 8601 date and time with Z or offset")
    try:
        return parse_moment(text)
    except ValueError:
        raise InvalidRequest(f"{field} is not a date in the calendar") from None


def format_milliseconds(time: datetime) -> str:
    """Format a time in UTC with milliseconds, as JavaScript's `toISOString` does."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
