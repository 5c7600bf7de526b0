"""Cursors of long lists: a cursor is decoded exactly, and anything else is refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.errors import InvalidRequest
from services.ingest.pages import (
    EXACT_TOTAL,
    AuditPosition,
    EventPosition,
    decode_cursor,
    encode_cursor,
    estimated_rows,
)

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENTRY = AuditPosition(AT, UUID(int=7))


def encoded(document: str) -> str:
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.integers(0, 9)
)
def test_a_position_is_unchanged_after_encoding_and_decoding(id: str, microseconds: int) -> None:
    at = AT.replace(microsecond=microseconds)
    position = EventPosition(at, AT, "posthog", id, -(2**63), 2**63 - 1)
    assert decode_cursor(EventPosition, encode_cursor(position)) == position


def test_without_a_cursor_a_list_starts_at_its_head() -> None:
    assert decode_cursor(EventPosition, None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense!",
        "a",
        "é",
        encode_cursor(ENTRY),
        encoded("{}"),
        encoded('["2026-01-01T00:00:00","2026-01-01T00:00:00Z","s","i",1,2]'),
        encoded('["0001-01-01T00:00:00+14:00","2026-01-01T00:00:00Z","s","i",1,2]'),
        encoded('["2026-01-01T00:00:00Z","2026-01-01T00:00:00Z","s","\\u0000",1,2]'),
        encoded('["2026-01-01T00:00:00Z","2026-01-01T00:00:00Z","s","\\ud800",1,2]'),
        encoded('["2026-01-01T00:00:00Z","2026-01-01T00:00:00Z","s","i",9223372036854775808,2]'),
        encoded('["2026-01-01T00:00:00Z","2026-01-01T00:00:00Z","s","i",1,2,3]'),
    ],
)
def test_text_that_is_no_cursor_of_the_list_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match="before must be"):
        decode_cursor(EventPosition, wrong)


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor(AuditPosition, text)


def test_an_estimate_of_rows_is_never_below_the_rows_that_were_counted() -> None:
    assert estimated_rows('[{"Plan": {"Plan Rows": 3}}]') == EXACT_TOTAL + 1
    assert estimated_rows('[{"Plan": {"Plan Rows": 2500000}}]') == 2_500_000
