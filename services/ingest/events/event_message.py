"""Builds the message with which a stored event is published on the bus."""

from __future__ import annotations

import msgspec

from hogsend.contract import subjects
from hogsend.contract.events import Event
from hogsend.contract.headers import message_headers
from hogsend.transport.publisher import OutgoingMessage
from services.ingest.incoming_event import IncomingEvent


def event_message(event: IncomingEvent, contact_key: str) -> OutgoingMessage:
    """Build the message of an incoming event.

    Args:
        event: the event.
        contact_key: canonical key of its contact; empty without one.
    """
    ref = event.ref
    published = Event(
        id=ref.id,
        event=event.name,
        user_id=event.user_id,
        contact_key=contact_key,
        source=ref.source,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        properties=event.properties,
        email=event.email,
        person_properties=event.person_properties,
        backfilled=event.backfilled,
    )
    return message_of(
        published,
        id=event.message_id,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
    )


def message_of(
    event: Event, *, id: str, correlation_id: str | None, traceparent: str | None = None
) -> OutgoingMessage:
    """Build the message of an event in the form that subscribers receive.

    Args:
        event: the event.
        id: the event's key, by which JetStream deduplicates.
        correlation_id: id of the request that brought the event, if it is known.
        traceparent: W3C trace context of that request, if it was traced.
    """
    return OutgoingMessage(
        subjects.event(event.event),
        msgspec.json.encode(event),
        message_headers(
            id=id,
            source=event.source,
            type="event",
            time=event.occurred_at,
            correlation_id=correlation_id,
            traceparent=traceparent,
        ),
    )
