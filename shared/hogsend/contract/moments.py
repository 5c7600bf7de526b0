"""Parsing of event times, limited to the range that every reader can represent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
"""Range of event times: Python's own range without a day at each end.

With this margin a time can be converted to every UTC offset. PostgreSQL's driver encodes the first
and the last time of Python's range as infinity.
"""

_END_OF_DAY = re.compile(r"(?<=[T ])24(?=:00(?::00(?:[.,]0+)?)?(?![\d:.,]))")
_LEAP_SECOND = re.compile(r"(?<=\d:\d\d):60(?!\d)")


def utc_in_range(moment: datetime) -> datetime | None:
    """Convert a time to UTC; a naive time is taken as UTC. None if it is out of range.

    The caller then uses the time of receipt instead, so that the row, the published event and
    responses have the same time.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elif moment.tzinfo is not UTC:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            return None
    return moment if EARLIEST <= moment <= LATEST else None


def parse_moment(text: str) -> datetime | None:
    """Parse an ISO 8601 time to UTC; None if it is out of range.

    A leap second becomes the next second, as on clocks without leap seconds. 24:00 is midnight at
    the end of the day. Letters may be lower case (RFC 3339, 5.6), as in JavaScript.

    Raises:
        ValueError: the text is no time.
    """
    text, offset = text.upper(), timedelta()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment, offset = _parse_unusual(text)
    in_range = utc_in_range(moment)
    return utc_in_range(in_range + offset) if in_range is not None and offset else in_range


def _parse_unusual(text: str) -> tuple[datetime, timedelta]:
    """Parse a time in capitals that Python does not read; return it and what to add to it."""
    text, offset = text.strip(), timedelta()
    if ":60" in text:
        text, leap_seconds = _LEAP_SECOND.subn(":59", text, count=1)
        offset = timedelta(seconds=leap_seconds)
    if "24:00" in text:
        text, midnights = _END_OF_DAY.subn("00", text, count=1)
        offset += timedelta(days=midnights)
    return datetime.fromisoformat(text), offset


def read_moment(text: str | None) -> datetime | None:
    """Parse an ISO 8601 time to UTC; None if the text is missing, no time, or out of range."""
    if not text:
        return None
    try:
        return parse_moment(text)
    except ValueError:
        return None
