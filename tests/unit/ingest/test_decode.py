"""Each message is decoded by its source; a message that no source accepts has a reason."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hogsend.contract.json_text import MAX_DEPTH
from hogsend.service.dead_letters import Unprocessable
from services.ingest.incoming_event import EventRef, IncomingEvent
from services.ingest.sources.decode import decode_engagement, decode_webhook
from tests.unit.ingest.fakes import NOW, Delivery, FakeMessage

WEBHOOK = b'{"event":{"event":"signed_up","distinct_id":"anna","uuid":"u-1"}}'
MANY = b",1e308" * 10_000
TOO_DEEP = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
LATER = NOW + timedelta(seconds=5)


def engagement(type: str, data: bytes, **headers: str) -> FakeMessage:
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return FakeMessage(
        b'{"data":%s}' % data,
        subject=f"hogsend.engagement.{type}",
        headers=header_fields or None,
        metadata=Delivery("ENGAGEMENT", timestamp=LATER),
    )


def decoded(type: str, data: bytes, **headers: str) -> IncomingEvent:
    event = decode_engagement(engagement(type, data, **headers))
    assert event is not None
    return event


def test_a_webhook_is_decoded_by_the_source_that_its_subject_names() -> None:
    event = decode_webhook(FakeMessage(WEBHOOK, metadata=Delivery(timestamp=LATER)))
    assert event.ref == EventRef("posthog", "u-1")
    assert event.received_at == LATER


def test_a_webhook_with_a_slot_is_decoded_by_its_source() -> None:
    event = decode_webhook(FakeMessage(WEBHOOK, subject="hogsend.webhooks.posthog.17"))
    assert event.ref == EventRef("posthog", "u-1")


@pytest.mark.parametrize("source", ["elsewhere", "elsewhere.17", "17.posthog"])
def test_a_webhook_of_an_unknown_source_is_unprocessable(source: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        decode_webhook(FakeMessage(WEBHOOK, subject=f"hogsend.webhooks.{source}"))
    assert caught.value.reason == "unknown_source"


@pytest.mark.parametrize("subject", ["hogsend.engagement.email.sent", "hogsend.webhooks.posthog"])
def test_a_byte_order_mark_before_a_body_is_ignored(subject: str) -> None:
    decode = decode_engagement if "engagement" in subject else decode_webhook
    body = b'{"data":{"userId":"anna"}}' if "engagement" in subject else WEBHOOK
    event = decode(FakeMessage(b"\xef\xbb\xbf" + body, subject=subject))
    assert event is not None
    assert event.user_id == "anna"


def test_engagement_is_an_event_of_hogsend_with_its_data_as_properties() -> None:
    event = decoded(
        "email.opened",
        b'{"userId":"u_1","messageId":"m"}',
        Nats_Msg_Id="m-1",
        Hogsend_Correlation_Id="c-1",
    )
    assert event.ref == EventRef("hogsend", "m-1")
    assert (event.name, event.user_id, event.email) == ("email.opened", "u_1", None)
    assert event.properties == {"userId": "u_1", "messageId": "m"}
    assert event.person_properties == {}
    assert (event.received_at, event.correlation_id) == (LATER, "c-1")


@pytest.mark.parametrize("id", ["x" * 257, "a\nce-id: forged", "a\0", ""])
def test_an_invalid_correlation_id_or_traceparent_is_dropped(id: str) -> None:
    event = decoded("email.opened", b'{"userId":"u_1"}', Hogsend_Correlation_Id=id, traceparent=id)
    assert (event.correlation_id, event.traceparent) == (None, None)


def test_a_long_message_id_is_replaced_by_its_digest() -> None:
    ids = {
        decoded("email.opened", b'{"userId":"u_1"}', Nats_Msg_Id=id).ref.id
        for id in ("x" * 500, "x" * 501, "x" * 60_000)
    }
    assert sorted(map(len, ids)) == [71, 71, 500]


@pytest.mark.parametrize(
    ("type", "data", "user_id", "email"),
    [
        ("email.opened", b'{"userId":"a","anonymousId":"b","externalId":"c"}', "a", None),
        ("email.opened", b'{"userId":null,"anonymousId":" ","externalId":"c"}', "c", None),
        ("email.sent", b'{"userId":7,"to":"a@b.com"}', "", "a@b.com"),
        ("email.sent", b'{"userEmail":"u@b.com","email":"e@b.com"}', "", "u@b.com"),
        # The address of a mail's recipient is not necessarily the person's own.
        ("email.sent", b'{"userId":"a","to":"a@b.com"}', "a", None),
        ("contact.unsubscribed", b'{"userId":"a","email":"a@b.com"}', "a", "a@b.com"),
        ("contact.unsubscribed", b'{"id":"r","email":"a@b.com"}', "", "a@b.com"),
        ("contact.updated", b'{"id":"r","email":"a@b.com"}', "r", "a@b.com"),
        ("contact.updated", b'{"id":"r","externalId":"a"}', "a", None),
        ("email.sent", b'{"to":" Mara@Example.com"}', "", "mara@example.com"),
        ("email.sent", b'{"to":"n/a"}', "", None),
        ("contact.updated", b'{"id":"r","email":"A@B.com"}', "r", "a@b.com"),
        # A placeholder id identifies no person, so the next field is used.
        ("email.sent", b'{"userId":"null","to":"a@b.com"}', "null", "a@b.com"),
        ("email.sent", b'{"userId":"null","anonymousId":"b","to":"a@b.com"}', "b", None),
        ("contact.updated", b'{"id":"r","externalId":"null","email":"a@b.com"}', "r", "a@b.com"),
        ("email.sent", b'{"userId":"null"}', "null", None),
    ],
)
def test_engagement_is_attributed_to_the_person_that_its_data_names(
    type: str, data: bytes, user_id: str, email: str | None
) -> None:
    event = decoded(type, data)
    assert (event.user_id, event.email) == (user_id, email)


@pytest.mark.parametrize(
    ("type", "data", "properties"),
    [
        ("contact.created", b'{"id":"r","properties":{"plan":"pro"}}', {"plan": "pro"}),
        ("contact.updated", b'{"id":"r","properties":{"note":"a\\u0000b"}}', {"note": "a\ufffdb"}),
        ("contact.updated", b'{"id":"r","properties":"odd"}', {}),
        ("email.opened", b'{"userId":"a","properties":{"plan":"pro"}}', {}),
    ],
)
def test_only_reports_about_a_contact_change_the_contacts_properties(
    type: str, data: bytes, properties: dict[str, str]
) -> None:
    assert decoded(type, data).person_properties == properties


def test_engagement_that_ingest_published_itself_is_not_stored_again() -> None:
    own = engagement("email.opened", b'{"userId":"u_1"}', **{"ce-source": "/hogsend/ingest"})
    assert decode_engagement(own) is None
    other = engagement("email.opened", b'{"userId":"u_1"}', **{"ce-source": "/hogsend/service"})
    assert decode_engagement(other) is not None


@pytest.mark.parametrize("type", ["webhook.test", "impact.digest"])
def test_engagement_about_no_person_is_not_stored(type: str) -> None:
    assert decode_engagement(engagement(type, b'{"userId":"u_1"}')) is None


@pytest.mark.parametrize(
    ("type", "body", "reason"),
    [
        ("email.opened", b"nonsense", "malformed"),
        ("email.opened", b'{"userId":"u_1"}', "malformed"),
        ("email.opened", b'{"type":"email.sent","data":{"userId":"u_1"}}', "malformed"),
        ("email.opened", b'{"data":{"userId":"u_1","a":[1e308%b]}}' % MANY, "malformed"),
        ("email.opened", b'{"data":{"userId":"u_1","a":%b}}' % TOO_DEEP, "malformed"),
        ("email.opened", b'{"data":{"messageId":"m"}}', "no_identity"),
        ("no.such.thing", b'{"data":{"userId":"u_1"}}', "unknown_type"),
    ],
)
def test_engagement_that_cannot_be_stored_is_unprocessable(
    type: str, body: bytes, reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        decode_engagement(FakeMessage(body, subject=f"hogsend.engagement.{type}"))
    assert caught.value.reason == reason
