"""`next_moment`: the next local time, with daylight saving time in both hemispheres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.client.local_time import WEEKDAYS, Weekday, next_moment
from hogsend.contract.timezones import find_timezone


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("timezone", "hour", "minute", "weekday", "from_", "expected"),
    [
        ("UTC", 9, 0, None, "2026-01-01T08:59:59+00:00", "2026-01-01T09:00:00+00:00"),
        ("UTC", 9, 0, None, "2026-01-01T09:00:00+00:00", "2026-01-02T09:00:00+00:00"),
        # This moment is on the next day in Tokyo.
        ("Asia/Tokyo", 9, 0, None, "2026-01-01T23:30:00+00:00", "2026-01-02T09:00:00+09:00"),
        ("Asia/Tokyo", 9, 0, "monday", "2026-11-23T00:00:00+00:00", "2026-11-30T09:00:00+09:00"),
        # Europe, March: 02:30 does not exist; the moment is later by as much as the clock jumps.
        ("Europe/Berlin", 2, 30, None, "2026-03-29T00:00:00+01:00", "2026-03-29T03:30:00+02:00"),
        # Europe, October: 02:30 occurs twice; the first one counts.
        ("Europe/Berlin", 2, 30, None, "2026-10-25T00:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        # Between the two, the next 02:30 is on the next day.
        ("Europe/Berlin", 2, 30, None, "2026-10-25T02:45:00+02:00", "2026-10-26T02:30:00+01:00"),
        # New York, spring forward and fall back.
        ("America/New_York", 2, 0, None, "2026-03-08T00:00:00-05:00", "2026-03-08T03:00:00-04:00"),
        ("America/New_York", 1, 0, None, "2026-11-01T00:00:00-04:00", "2026-11-01T01:00:00-04:00"),
        # Southern hemisphere: Sydney springs forward in October and falls back in April.
        ("Australia/Sydney", 2, 30, None, "2026-10-04T00:00:00+10:00", "2026-10-04T03:30:00+11:00"),
        ("Australia/Sydney", 2, 30, None, "2026-04-05T00:00:00+11:00", "2026-04-05T02:30:00+11:00"),
        # The clock jumps by half an hour only.
        (
            "Australia/Lord_Howe",
            2,
            15,
            None,
            "2026-10-04T00:00:00+10:30",
            "2026-10-04T02:45:00+11:00",
        ),
        # Midnight is skipped in Cairo: Friday starts at 01:00.
        ("Africa/Cairo", 0, 0, "friday", "2026-04-23T12:00:00+02:00", "2026-04-24T01:00:00+03:00"),
        # In Nuuk the last hour of a Saturday is skipped: 23:30 becomes 00:30 on Sunday.
        (
            "America/Nuuk",
            *(23, 30, "saturday", "2026-03-28T12:00:00-02:00", "2026-03-29T00:30:00-01:00"),
        ),
        ("America/Nuuk", 23, 30, None, "2026-03-29T00:10:00-01:00", "2026-03-29T00:30:00-01:00"),
        ("America/Nuuk", 23, 30, None, "2026-03-29T00:30:00-01:00", "2026-03-29T23:30:00-01:00"),
        # The clock jumps by two hours.
        ("Antarctica/Troll", 1, 30, None, "2026-03-29T00:00:00+00:00", "2026-03-29T03:30:00+02:00"),
        # A week that includes the jump keeps the local hour.
        ("Europe/London", 9, 0, "monday", "2026-03-23T09:00:00+00:00", "2026-03-30T09:00:00+01:00"),
        # Samoa had no 30 December 2011, which was a Friday.
        ("Pacific/Apia", 9, 0, "friday", "2011-12-28T12:00:00-10:00", "2012-01-06T09:00:00+14:00"),
        ("Pacific/Apia", 9, 0, None, "2011-12-29T12:00:00-10:00", "2011-12-31T09:00:00+14:00"),
    ],
)
def test_the_next_moment_is_the_next_occurrence_of_the_local_time(  # noqa: PLR0917
    timezone: str, hour: int, minute: int, weekday: Weekday | None, from_: str, expected: str
) -> None:
    moment = next_moment(timezone, hour=hour, minute=minute, weekday=weekday, after=parse(from_))
    assert moment.isoformat() == expected


ZONES = ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]


@given(
    timezone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    weekday=st.sampled_from([None, *WEEKDAYS]),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),  # noqa: DTZ001
)
def test_the_next_moment_is_within_eight_days_and_on_the_requested_weekday(
    timezone: str, hour: int, minute: int, weekday: Weekday | None, start: datetime
) -> None:
    after = start.replace(tzinfo=UTC)
    moment = next_moment(timezone, hour=hour, minute=minute, weekday=weekday, after=after)
    assert after < moment <= after + timedelta(days=8, hours=3)
    assert moment.utcoffset() == moment.astimezone(ZoneInfo(timezone)).utcoffset()
    if weekday is not None:
        assert WEEKDAYS[moment.weekday()] == weekday
    # The requested hour, or a later one where daylight saving time skips it.
    requested = moment.replace(hour=hour, minute=minute, second=0)
    assert (moment - requested) in {timedelta(0), timedelta(minutes=30), timedelta(hours=1)}


def test_the_next_moment_is_after_now_by_default() -> None:
    assert next_moment("UTC", hour=9) > datetime.now(UTC)


@pytest.mark.parametrize(
    "argument",
    [
        {"timezone": "Mars/Olympus"},
        {"hour": 24},
        {"minute": 60},
        {"weekday": "funday"},
        {"after": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_an_invalid_argument_raises_a_value_error(argument: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        next_moment(**{"timezone": "UTC", "hour": 9, **argument})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [" Europe/Berlin", "europe/berlin\n"])
def test_white_space_around_the_name_of_a_timezone_is_ignored(name: str) -> None:
    assert find_timezone(name) == "Europe/Berlin"


def test_the_name_of_a_timezone_is_found_in_any_case() -> None:
    assert find_timezone("europe/LONDON") == "Europe/London"
    for name in ("", "Factory", "../UTC", "/etc/localtime", None, 5):
        assert find_timezone(name) is None


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime(9999, 12, 31, 12, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
)
def test_a_moment_outside_the_calendar_raises_a_value_error(
    timezone: str, moment: datetime
) -> None:
    with pytest.raises(ValueError, match="9999"):
        next_moment(timezone, hour=9, weekday="monday", after=moment)
