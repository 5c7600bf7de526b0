"""Whatever a message holds, it is decoded or refused with a reason; nothing else happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.engagement import MalformedEngagement, read_engagement
from hogsend.contract.identity import contact_email
from hogsend.service.dead_letters import Unprocessable
from services.gateway.webhooks.posthog import InvalidPayloadError, MalformedJSONError, parse_posthog
from services.ingest.incoming_event import IncomingEvent
from services.ingest.sources import engagement as engagement_source
from services.ingest.sources import posthog as posthog_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = {"malformed", "no_identity", "unknown_type"}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["", " ", "\x00", "\ud800", "2026-13-45", "0001-01-01", "9" * 400])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def shaped(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these names, holding anything."""
    return st.dictionaries(st.sampled_from(names), values)


webhooks = st.fixed_dictionaries(
    {},
    optional={
        "event": values
        | st.fixed_dictionaries(
            {"event": st.text(max_size=20), "distinct_id": st.text(max_size=20)},
            optional={"uuid": values, "timestamp": values, "properties": values, "email": values},
        ),
        "person": values | shaped("properties", "email", "id"),
        "version": values,
    },
)
engagement = shaped("data", "id", "type", "timestamp", "userId", "to") | st.fixed_dictionaries(
    {"data": shaped("userId", "to", "email", "properties", "contact")}
)
headers = st.dictionaries(
    st.sampled_from(
        [
            *("Nats-Msg-Id", "ce-id", "ce-time", "ce-type", "ce-source", "ce-specversion"),
            *("Hogsend-Correlation-Id", "Hogsend-Received-At"),
        ]
    ),
    st.text(max_size=30),
)


def bodies(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return (
        st.binary(max_size=200)
        | documents.map(lambda document: json.dumps(document).encode())
        | documents.map(
            lambda document: json.dumps(document, ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
        )
        | documents.map(lambda document: json.dumps(document).encode()[:-1])
        | st.sampled_from(
            [b"[" * 100_000, b'{"event":' * 5000, b"1e999999", b'"\\u0000"', b"\xff\xfe"]
        )
    )


@given(bodies(webhooks), headers)
def test_the_webhook_decoder(body: bytes, given_headers: dict[str, str]) -> None:
    try:
        event = posthog_source.decode(body, given_headers, NOW)
    except Unprocessable as why:
        _has_a_reason(why)
        return
    assert isinstance(event, IncomingEvent)
    assert event.ref.id
    _is_somebodys_or_nobodys(event)


@given(bodies(engagement), headers, st.text(max_size=20) | st.just("email.opened"))
def test_the_engagement_decoder(body: bytes, given_headers: dict[str, str], type: str) -> None:
    subject = f"hogsend.engagement.{type}"
    try:
        event = engagement_source.decode(subject, body, given_headers, 1, NOW)
    except Unprocessable as why:
        _has_a_reason(why)
        return
    if event is not None:
        _is_somebodys_or_nobodys(event)


@given(bodies(engagement), headers)
def test_what_destinations_make_of_engagement(body: bytes, given_headers: dict[str, str]) -> None:
    try:
        happened = read_engagement("hogsend.engagement.email.opened", given_headers, body, 1, NOW)
    except MalformedEngagement:
        return
    assert happened.id
    assert happened.timestamp.tzinfo is not None


@given(bodies(webhooks))
def test_the_gateway_takes_only_what_ingest_can_read(body: bytes) -> None:
    try:
        _, queued = parse_posthog(body)
    except (MalformedJSONError, InvalidPayloadError):
        return
    assert isinstance(posthog_source.decode(queued, {}, NOW), IncomingEvent)


def _has_a_reason(why: Unprocessable) -> None:
    assert why.reason in REASONS
    assert str(why)


def _is_somebodys_or_nobodys(event: IncomingEvent) -> None:
    """An event without a key is nobody's (contract C5); one with a key has one that may be it."""
    if event.contact_user_id is not None:
        assert event.contact_user_id.strip()
    if event.email is not None:
        assert event.email == contact_email(event.email)
