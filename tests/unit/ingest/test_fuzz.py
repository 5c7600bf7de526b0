"""Every message is decoded or refused with a reason, whatever its body and headers hold."""

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
    """Objects with some of these names and any values."""
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
def test_the_webhook_decoder_decodes_any_body_or_refuses_it_with_a_reason(
    body: bytes, given_headers: dict[str, str]
) -> None:
    try:
        event = posthog_source.decode(body, given_headers, NOW)
    except Unprocessable as why:
        _check_reason(why)
        return
    assert isinstance(event, IncomingEvent)
    assert event.ref.id
    _check_identities(event)


@given(bodies(engagement), headers, st.text(max_size=20) | st.just("email.opened"))
def test_the_engagement_decoder_decodes_any_body_or_refuses_it_with_a_reason(
    body: bytes, given_headers: dict[str, str], type: str
) -> None:
    subject = f"hogsend.engagement.{type}"
    try:
        event = engagement_source.decode(subject, body, given_headers, 1, NOW)
    except Unprocessable as why:
        _check_reason(why)
        return
    if event is not None:
        _check_identities(event)


@given(bodies(engagement), headers)
def test_engagement_for_destinations_has_an_id_and_a_time_or_is_malformed(
    body: bytes, given_headers: dict[str, str]
) -> None:
    try:
        report = read_engagement("hogsend.engagement.email.opened", given_headers, body, 1, NOW)
    except MalformedEngagement:
        return
    assert report.id
    assert report.timestamp.tzinfo is not None


@given(bodies(webhooks))
def test_ingest_decodes_every_webhook_that_the_gateway_accepts(body: bytes) -> None:
    try:
        _, queued = parse_posthog(body)
    except (MalformedJSONError, InvalidPayloadError):
        return
    assert isinstance(posthog_source.decode(queued, {}, NOW), IncomingEvent)


def _check_reason(why: Unprocessable) -> None:
    assert why.reason in REASONS
    assert str(why)


def _check_identities(event: IncomingEvent) -> None:
    """Check that a user id is not blank, and that an email is in its normal form (contract C5)."""
    if event.contact_user_id is not None:
        assert event.contact_user_id.strip()
    if event.email is not None:
        assert event.email == contact_email(event.email)
