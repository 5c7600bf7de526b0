"""`Retry-After` as servers and proxies send it, valid or not."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.posthog.capture import CaptureApi, CaptureError
from hogsend.posthog.retry_after import MAX_SECONDS, retry_after_seconds

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999", MAX_SECONDS),
        ("9" * 5000, MAX_SECONDS),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("120, 60", None),
        ("soon", None),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30.0),
        ("Wed, 25 Nov 2026 14:00:30 +0200", 30.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_SECONDS),
        ("Mon, 01 Jan 2147483648 00:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
        ("Mon, 99 Jan 2026 00:00:00 GMT", None),
        ("Mon, 01 Jan 2026 99:00:00 GMT", None),
    ],
)
def test_a_wait_is_bounded_and_an_invalid_header_is_ignored(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]+ Jan [0-9]+ [0-9]+:[0-9]+:[0-9]+ \S*"))
def test_any_header_is_read_without_an_error(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or 0 <= seconds <= MAX_SECONDS


async def test_a_delivery_with_an_invalid_retry_after_fails_with_its_status() -> None:
    response = httpx.Response(429, headers={"Retry-After": "Mon, 01 Jan 2147483648 00:00:00 GMT"})
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: response))
    with pytest.raises(CaptureError, match="HTTP 429") as raised:
        await CaptureApi(http, seconds=5).send("https://posthog.example", "phc_x", [b"{}"])
    assert raised.value.retry_after is None
    assert raised.value.is_retryable
