"""Webhooks of PostHog: which are accepted, and the errors of all others."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.headers import CORRELATION_ID, MESSAGE_ID, RECEIVED_AT, event_message_id
from hogsend.contract.partitions import slot_of
from services.gateway.routes.record import Email, IdempotencyKey
from services.gateway.webhooks.posthog import (
    InvalidPayloadError,
    MalformedJSONError,
    parse_posthog,
    queued_posthog_webhook,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def body(**changes: object) -> bytes:
    event = {"event": "signed_up", "distinct_id": "u_42", "uuid": "0190-a", "properties": {}}
    return json.dumps({"event": event, **changes}).encode()


def event_body(**changes: object) -> bytes:
    event: dict[str, object] = {"event": "signed_up", "distinct_id": "u_42"}
    return json.dumps({"event": {**event, **changes}}).encode()


@given(json_values)
def test_an_event_with_any_json_as_its_person_is_accepted(person: object) -> None:
    webhook, queued = parse_posthog(body(person=person))
    assert webhook.event.distinct_id == "u_42"
    assert json.loads(queued)["event"]["event"] == "signed_up"
    assert isinstance(webhook.person_properties, dict)


@given(json_values)
def test_any_json_is_kept_as_a_property(value: object) -> None:
    webhook, _ = parse_posthog(event_body(properties={"x": value}))
    assert "x" in webhook.event.properties


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_as_malformed_or_invalid(data: bytes) -> None:
    with pytest.raises((MalformedJSONError, InvalidPayloadError)):
        parse_posthog(data)


@given(json_values)
def test_json_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(InvalidPayloadError):
        parse_posthog(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"event": 1}, "str"),
        ({"distinct_id": 42}, "str"),
        ({"distinct_id": None}, "str"),
        ({"properties": None}, "object"),
        ({"properties": []}, "object"),
        ({"uuid": 7}, "str"),
        ({"timestamp": 7}, "str"),
        ({"distinct_id": " "}, "distinct_id"),
    ],
)
def test_a_wrong_field_is_named_by_its_top_level_key(change: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidPayloadError, match=word) as caught:
        parse_posthog(event_body(**change))
    assert caught.value.field == "event"


def test_an_event_without_a_distinct_id_is_accepted_when_its_person_has_an_email() -> None:
    data = json.dumps(
        {
            "event": {"event": "x", "distinct_id": ""},
            "person": {"properties": {"email": " A@B.com "}},
        }
    ).encode()
    assert parse_posthog(data)[0].email == "a@b.com"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"event":{"event":"a\xff","distinct_id":"u"}}',
        b'{"event":{"event":"a","distinct_id":"u"},"ignored":"\xff"}',
        b'{"event":{"event":"a","distinct_id":"u"}} trailing',
        b'{"event":{"event":"\\ud83d","distinct_id":NaN}}',
    ],
)
def test_bytes_that_are_not_json_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedJSONError):
        parse_posthog(data)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b"1e999", "Number out of range"),
        (b"[1e308" + b",1e308" * 10_000 + b"]", "too many numbers"),
    ],
)
def test_json_that_exceeds_a_limit_is_invalid_and_not_malformed(value: bytes, problem: str) -> None:
    body = b'{"event":{"event":"a","distinct_id":"u","properties":{"x":' + value + b"}}}"
    with pytest.raises(InvalidPayloadError, match=problem):
        parse_posthog(body)


def test_a_lone_surrogate_is_replaced_and_the_event_accepted() -> None:
    webhook, queued = parse_posthog(
        b'{"event":{"event":"a","distinct_id":"u",'
        b'"properties":{"t":"cut \\ud83d","ok":"\\ud83d\\ude00"}}}'
    )
    assert webhook.event.properties == {"t": "cut \ufffd", "ok": "\U0001f600"}
    assert queued.decode()


def message_id_of(uuid: str = "0190-a") -> str:
    return event_message_id(source="posthog", id=uuid, event="signed_up", user_id="u_42")


def test_the_message_id_is_derived_from_uuid_event_name_and_distinct_id() -> None:
    webhook, data = parse_posthog(body())
    delivery = queued_posthog_webhook(webhook, data, NOW, "r-1")
    assert delivery.id == delivery.headers[MESSAGE_ID] == message_id_of()
    assert delivery.headers[CORRELATION_ID] == "r-1"
    assert delivery.headers[RECEIVED_AT] == "2026-06-01T12:00:00.000000Z"
    assert delivery.body == data


def test_the_subject_of_a_webhook_ends_with_the_slot_of_its_person_when_order_is_kept() -> None:
    webhook, data = parse_posthog(body())
    slot = slot_of("u_42", None)
    for in_order, subject in (
        (False, "hogsend.webhooks.posthog"),
        (True, f"hogsend.webhooks.posthog.{slot}"),
    ):
        queued = queued_posthog_webhook(webhook, data, NOW, "r-1", in_order=in_order)
        assert (queued.subject, queued.id) == (subject, message_id_of())


@pytest.mark.parametrize("other", [{"event": "e"}, {"distinct_id": "d"}, {"uuid": "0190-b"}])
def test_events_that_share_a_uuid_do_not_share_a_message_id(other: dict[str, str]) -> None:
    webhook, data = parse_posthog(event_body(**{"uuid": "0190-a", **other}))
    assert queued_posthog_webhook(webhook, data, NOW, "r-1").id != message_id_of()


@pytest.mark.parametrize("uuid", [None, ""])
def test_case_118_without_a_uuid_each_delivery_has_an_id_of_its_own(uuid: str | None) -> None:
    webhook, data = parse_posthog(event_body(uuid=uuid))
    first, again = (queued_posthog_webhook(webhook, data, NOW, "r-2") for _ in range(2))
    assert first.id == first.headers[MESSAGE_ID] != again.id == again.headers[MESSAGE_ID]


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Email, "grace@example.com\n"), (IdempotencyKey, "k\n")],
)
def test_an_email_or_a_key_with_a_trailing_line_break_is_refused(kind: object, text: str) -> None:
    assert msgspec.convert(text.strip(), kind) == text.strip()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, kind)
