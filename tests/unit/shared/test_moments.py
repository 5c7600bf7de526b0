"""`parse_moment`: times outside the range that every consumer can represent are parsed as None."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from hogsend.contract.engagement import Engagement, read_engagement
from hogsend.contract.moments import parse_moment, utc_in_range

NOW = datetime(2026, 1, 1, tzinfo=UTC)

OUT_OF_RANGE = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-05:00",
    "9999-12-31T23:59:60Z",
    "9999-12-30T24:00:00Z",
]


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_a_time_out_of_range_is_parsed_as_none(text: str) -> None:
    assert parse_moment(text) is None


@pytest.mark.parametrize("text", ["-infinity", "infinity", "", "2026-13-01T00:00:00Z", "1e9"])
def test_a_text_that_is_no_time_raises_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_moment(text)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60+01:00"])
def test_a_leap_second_is_parsed_as_the_second_after_it(text: str) -> None:
    assert parse_moment(text) == datetime(2017, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-01t10:00:00z", datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("2026-06-30T24:00:00Z", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-06-30 24:00:00.000+02:00", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-06-30T24:00", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-06-30T12:24:00Z", datetime(2026, 6, 30, 12, 24, tzinfo=UTC)),
    ],
)
def test_a_time_is_parsed_as_iso_8601_defines_it(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["2026-06-30T24:00:01Z", "2026-06-30T24:01Z", "2026-06-30T25:00Z"])
def test_a_time_after_the_end_of_the_day_raises_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"hour"):
        parse_moment(text)


def engagement(data: str, timestamp: str) -> Engagement:
    body = f'{{"data":{{"note":"{data}"}},"timestamp":"{timestamp}"}}'.encode()
    return read_engagement("hogsend.engagement.email.sent", {}, body, 1, NOW)


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_engagement_with_a_time_out_of_range_gets_the_time_it_was_queued(text: str) -> None:
    assert engagement("", text).timestamp == NOW


def test_a_lone_surrogate_in_engagement_is_replaced() -> None:
    assert engagement(r"cut \ud83d", "2026-01-01T00:00:00Z").data == {"note": "cut \ufffd"}


def test_a_time_without_an_offset_is_in_utc_wherever_the_service_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        naive = utc_in_range(datetime(2026, 1, 1, 12))  # noqa: DTZ001 - the case
    finally:
        monkeypatch.undo()
        time.tzset()
    assert naive == datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_time_with_an_offset_is_converted_to_utc() -> None:
    offset = timezone(timedelta(hours=2))
    converted = utc_in_range(datetime(2026, 1, 1, 12, tzinfo=offset))
    assert converted is not None
    assert (converted.hour, converted.tzinfo) == (10, UTC)
    assert utc_in_range(datetime.min.replace(tzinfo=offset)) is None
