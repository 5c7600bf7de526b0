"""Times in headers: always in UTC and of the same length, so that they sort as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from hogsend.contract.headers import format_time


@pytest.mark.parametrize(
    ("microsecond", "text"),
    [
        (0, "2026-06-01T12:00:00.000000Z"),
        (1, "2026-06-01T12:00:00.000001Z"),
        (120_000, "2026-06-01T12:00:00.120000Z"),
        (999_999, "2026-06-01T12:00:00.999999Z"),
    ],
)
@pytest.mark.parametrize("hours", [-8, 0, 2])
def test_a_time_is_formatted_in_utc_with_six_fractional_digits(
    microsecond: int, text: str, hours: int
) -> None:
    moment = datetime(2026, 6, 1, 12, 0, 0, microsecond, tzinfo=UTC)
    assert format_time(moment) == text
    assert format_time(moment.astimezone(timezone(timedelta(hours=hours)))) == text


def test_a_year_is_formatted_with_four_digits() -> None:
    assert format_time(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"
