from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.headers import CORRELATION_ID, TRACEPARENT
from hogsend.contract.moments import read_moment
from hogsend.service.dead_letters import Unprocessable
from services.ingest.incoming_event import EventRef, IncomingEvent
from services.ingest.sources.posthog import decode

QUEUED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RECEIVED_AT = datetime(2026, 1, 2, 3, 4, 4, tzinfo=UTC)
HEADERS = {
    "Nats-Msg-Id": "u-1",
    "Hogsend-Received-At": "2026-01-02T03:04:04.000000Z",
    "Hogsend-Correlation-Id": "c-1",
}


def decoded(
    headers: dict[str, str] | None = None, person: Any = None, **event: Any
) -> IncomingEvent:
    body: dict[str, Any] = {"event": {"event": "signed_up", "distinct_id": "d-1", **event}}
    if person is not None:
        body["person"] = person
    return decode(msgspec.json.encode(body), HEADERS if headers is None else headers, QUEUED_AT)


def test_case_117_event_and_person_properties_are_never_mixed() -> None:
    event = decoded(
        properties={"plan": "free"}, person={"properties": {"plan": "pro", "email": "a@b.com"}}
    )
    assert event.properties == {"plan": "free"}
    assert event.person_properties == {"plan": "pro", "email": "a@b.com"}
    assert event.email == "a@b.com"


def test_case_118_the_uuid_of_an_event_becomes_a_property() -> None:
    assert decoded(uuid="u-1").properties == {"_posthogEventId": "u-1"}


def test_case_118_an_event_without_a_uuid_gets_no_property() -> None:
    assert decoded().properties == {}


def test_case_119_an_event_without_a_person_has_no_email_and_no_person_properties() -> None:
    event = decoded()
    assert event.email is None
    assert event.person_properties == {}


@pytest.mark.parametrize("name", ["$identify", "$create_alias"])
def test_case_120_an_event_with_a_reserved_name_is_decoded_as_any_other(name: str) -> None:
    assert decoded(event=name).name == name


def test_id_time_of_receipt_and_correlation_id_are_read_from_the_headers() -> None:
    event = decoded()
    assert event.ref == EventRef("posthog", "u-1")
    assert (event.received_at, event.queued_at) == (RECEIVED_AT, QUEUED_AT)
    assert event.correlation_id == "c-1"


@pytest.mark.parametrize("id", ["x" * 257, "a\nce-id: forged", "a\0", ""])
def test_an_invalid_correlation_id_or_traceparent_is_dropped(id: str) -> None:
    event = decoded({CORRELATION_ID: id, TRACEPARENT: id})
    assert (event.correlation_id, event.traceparent) == (None, None)


def test_without_headers_id_and_time_come_from_the_body_and_the_stream() -> None:
    event = decoded({}, uuid="0190-abc")
    assert event.ref.id == "0190-abc"
    assert event.received_at == QUEUED_AT
    assert event.correlation_id is None


def test_the_uuid_is_the_id_whatever_the_id_of_the_message() -> None:
    assert decoded(uuid="0190-abc").ref.id == "0190-abc"


def test_case_118_a_message_without_any_id_gets_the_same_id_at_every_delivery() -> None:
    body = b'{"event":{"event":"e","distinct_id":"d"}}'
    id = decode(body, {}, QUEUED_AT).ref.id
    assert id == decode(body, {}, QUEUED_AT).ref.id
    assert id != decode(body, {}, RECEIVED_AT).ref.id


@pytest.mark.parametrize("uuid", ["a\r\nNats-Msg-Id: b", "x" * 5000, "ü"])
def test_a_uuid_that_cannot_be_a_header_is_replaced_by_its_digest(uuid: str) -> None:
    event = decoded({}, uuid=uuid)
    assert event.ref.id == f"sha256:{hashlib.sha256(uuid.encode()).hexdigest()}"
    assert event.properties["_posthogEventId"] == uuid


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00.123Z", datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("2026-01-01T00:00:00.123456789Z", datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2025-12-31T18:30:00-0530", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2025-12-31T23:59:60Z", datetime(2026, 1, 1, tzinfo=UTC)),
        (" 2026-01-01T00:00:00Z\n", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_leniently(text: str, moment: datetime) -> None:
    assert decoded(timestamp=text).occurred_at == moment


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "yesterday",
        "1735689600",
        "2026-13-01T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00Z",
        "-infinity",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_time_that_cannot_be_read_is_replaced_by_the_time_of_receipt(text: str | None) -> None:
    assert decoded(timestamp=text).occurred_at == RECEIVED_AT


@given(st.text())
def test_any_text_is_a_utc_time_or_none(text: str) -> None:
    moment = read_moment(text)
    assert moment is None or moment.tzinfo is UTC


def test_a_time_in_the_future_counts_as_the_time_of_receipt() -> None:
    event = decoded(timestamp="2099-01-01T00:00:00Z")
    assert event.occurred_at.year == 2099
    assert event.effective_at == RECEIVED_AT


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (rb"a\u0000b", "a\ufffdb"),
        (rb"a\\u0000b", "a\\u0000b"),
        (rb"a\\\u0000b", "a\\\ufffdb"),
        (rb"\u0000\u0000", "\ufffd\ufffd"),
        (rb"cut \ud83d", "cut \ufffd"),
    ],
)
def test_nul_is_replaced_in_values_and_keys(raw: bytes, stored: str) -> None:
    body = b'{"event":{"event":"e","distinct_id":"d","properties":{"%s":["%s"]}}}' % (raw, raw)
    assert decode(body, {}, QUEUED_AT).properties == {stored: [stored]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"not":"posthog"}',
        b'{"event":{"event":1,"distinct_id":"d"}}',
        b'{"event":{"event":"\xff","distinct_id":"d"}}',
        b'{"event":{"event":"e","distinct_id":"d","properties":{"a":%s}}}'
        % (b"[" * 10_000 + b"]" * 10_000),
        b'{"event":{"event":"e","distinct_id":"d","properties":{"a":[1e308%s]}}}'
        % (b",1e308" * 10_000),
    ],
)
def test_a_malformed_body_is_unprocessable(body: bytes) -> None:
    with pytest.raises(Unprocessable) as caught:
        decode(body, HEADERS, QUEUED_AT)
    assert caught.value.reason == "malformed"
    # Operators read the detail: it names no class of Python.
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("distinct_id", ["", "  \t"])
def test_an_event_without_an_identity_is_unprocessable(distinct_id: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        decoded(distinct_id=distinct_id)
    assert caught.value.reason == "no_identity"


def test_an_email_suffices_as_identity() -> None:
    event = decoded(distinct_id="", person={"properties": {"email": " A@B.com "}})
    assert (event.user_id, event.email) == ("", "a@b.com")


@pytest.mark.parametrize("person", [7, [], {"properties": None}, {"properties": {"email": 7}}])
def test_a_malformed_person_is_ignored(person: Any) -> None:
    assert decoded(person=person).email is None
