"""Times of events: only those that every reader can represent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
"""A day within Python's own range, so that every offset can show a moment.

PostgreSQL's driver makes infinity of the very first and last moment.
"""

_END_OF_DAY = re.compile(r"(?<=[T ])24(?=:00(?::00(?:[.,]0+)?)?(?![\d:.,]))")
_LEAP_SECOND = re.compile(r"(?<=\d:\d\d):60(?!\d)")


def held(moment: datetime) -> datetime | None:
    """The moment in UTC, a naive one taken as UTC; None when it is out of range.

    With None the caller takes the time of receipt, which is the same in the row, on the bus and in
    answers then.
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
    """Read an ISO 8601 time as UTC; None when it is out of range.

    A leap second is the first second after it, as clocks without leap seconds have it; 24:00 is
    midnight at the day's end; letters may be small (RFC 3339, 5.6), as in JavaScript.

    Raises:
        ValueError: it is no time.
    """
    text, later = text.strip().upper(), timedelta()
    if ":60" in text:
        text, leaps = _LEAP_SECOND.subn(":59", text, count=1)
        later = timedelta(seconds=leaps)
    if "24:00" in text:
        text, ends = _END_OF_DAY.subn("00", text, count=1)
        later += timedelta(days=ends)
    moment = held(datetime.fromisoformat(text))
    return held(moment + later) if moment is not None and later else moment


def read_moment(text: str | None) -> datetime | None:
    """Read an ISO 8601 time as UTC, naive ones included; None when it is not a time we can hold."""
    if not text:
        return None
    try:
        return parse_moment(text)
    except ValueError:
        return None
