"""Decodes PostHog's webhook (contract 5.4); keeps the event's own time and id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from hogsend.contract.headers import (
    CORRELATION_ID,
    RECEIVED_AT,
    TRACEPARENT,
    format_time,
    message_id,
    propagated,
)
from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, repaired_json
from hogsend.contract.moments import read_moment
from hogsend.contract.webhooks import SOURCE, PostHogWebhook
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.nul import json_without_nul
from services.ingest.incoming_event import EventRef, IncomingEvent

EVENT_ID_PROPERTY = "_posthogEventId"

_decode = decoder(PostHogWebhook)


def decode(body: bytes, headers: Mapping[str, str], queued_at: datetime) -> IncomingEvent:
    """Decode a queued webhook.

    Args:
        body: the body that PostHog posted.
        headers: headers of the queued message.
        queued_at: when JetStream stored the message; replaces a missing time of receipt.

    Raises:
        Unprocessable: `malformed`, or `no_identity` without a distinct id and an email.
    """
    try:
        webhook = _decode(json_without_nul(repaired_json(body)))
    except (*NOT_JSON, ValueError) as error:
        raise Unprocessable("malformed", str(error)) from error
    event = webhook.event
    if not webhook.has_identity:
        raise Unprocessable("no_identity", "neither a distinct id nor an email")
    properties = event.properties
    if event.uuid:
        properties = {**properties, EVENT_ID_PROPERTY: event.uuid}
    received_at = read_moment(headers.get(RECEIVED_AT)) or queued_at
    return IncomingEvent(
        ref=EventRef(SOURCE, webhook.event_id or message_id(headers) or _id(body, received_at)),
        name=event.event,
        user_id=event.distinct_id,
        email=webhook.email,
        occurred_at=read_moment(event.timestamp) or received_at,
        received_at=received_at,
        queued_at=queued_at,
        properties=properties,
        person_properties=webhook.person_properties,
        correlation_id=propagated(headers, CORRELATION_ID),
        traceparent=propagated(headers, TRACEPARENT),
    )


def _id(body: bytes, received_at: datetime) -> str:
    """The id of a message that was queued without one; the same at every redelivery."""
    return f"sha256:{hashlib.sha256(format_time(received_at).encode() + body).hexdigest()}"
