"""Local times, for example next Monday at nine in a person's time zone, with daylight saving."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from hogsend.contract.timezones import find_timezone

Weekday: TypeAlias = Literal[
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
]

WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
LOOK_AHEAD_DAYS = 15
"""Two weeks and a day: where a country moved across the date line, one weekday was skipped."""


def next_moment(
    timezone: str,
    *,
    hour: int,
    minute: int = 0,
    weekday: Weekday | None = None,
    after: datetime | None = None,
) -> datetime:
    """Return the next moment when it is `hour:minute` in `timezone`, on `weekday` or any day.

    A time that daylight saving skips is moved forward by the length of the gap. Of a time that
    occurs twice, the first occurrence counts ("compatible" in RFC 5545 and ECMAScript Temporal).

    Args:
        timezone: IANA name, as `Client.timezone` returns it.
        hour: 0 to 23.
        minute: 0 to 59.
        weekday: `monday` to `sunday`.
        after: the returned moment is later than this one; now by default.

    Returns:
        The moment, with its offset in that time zone.

    Raises:
        ValueError: there is no such time zone, time or weekday, `after` has no offset, or the
            moment lies outside of the years 1 to 9999.
    """
    try:
        return _next_moment(timezone, hour, minute, weekday, after)
    except OverflowError:
        raise ValueError("the moment lies outside of the years 1 to 9999") from None


def _next_moment(
    timezone: str, hour: int, minute: int, weekday: Weekday | None, after: datetime | None
) -> datetime:
    name = find_timezone(timezone)
    if name is None:
        raise ValueError(f"there is no time zone {timezone!r}")
    if weekday is not None and weekday not in WEEKDAYS:
        raise ValueError(f"there is no weekday {weekday!r}; they are {', '.join(WEEKDAYS)}")
    start = after or datetime.now(UTC)
    if getattr(start, "tzinfo", None) is None:
        raise ValueError("`after` needs an offset")
    zone, clock = ZoneInfo(name), time(hour, minute)
    today = start.astimezone(zone).date()
    # Yesterday's time may fall on today when it is skipped: in Nuuk the clock jumps from 23:00 to
    # 24:00.
    first = today - timedelta(days=1) if today > date.min else today
    for ahead in range(LOOK_AHEAD_DAYS + 1):
        day = first + timedelta(days=ahead)
        wall_time = datetime.combine(day, clock)
        # For a skipped time Python uses the offset before the gap, which moves it forward.
        moment = wall_time.replace(tzinfo=zone).astimezone(UTC)
        local = moment.astimezone(zone)
        skips_day = local.replace(tzinfo=None) - wall_time >= timedelta(days=1)
        if moment <= start or skips_day:
            continue
        if weekday is None or WEEKDAYS[day.weekday()] == weekday:
            return local
    raise ValueError(f"there is no such time in {name} within {LOOK_AHEAD_DAYS} days")
