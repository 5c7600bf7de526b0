"""Moments as clients send them: text, with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from hogsend.contract.errors import InvalidRequest

Moment = Annotated[
    str, msgspec.Meta(description="ISO 8601 date and time with `Z` or an offset, upper case.")
]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_moment(text: str, field: str) -> datetime:
    """Read a moment as UTC.

    Raises:
        InvalidRequest: `field`, which it came in, holds none.
    """
    if not _MOMENT.fullmatch(text):
        raise InvalidRequest(f"{field} must be an ISO 8601 date and time with Z or offset")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field} is not a date in the calendar") from None
