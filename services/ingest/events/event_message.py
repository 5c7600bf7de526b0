"""A stored event as it is announced on the bus."""

from __future__ import annotations

import msgspec

from hogsend.contract import subjects
from hogsend.contract.events import Event
from hogsend.contract.headers import message_headers
from hogsend.transport.publisher import Outgoing
from services.ingest.events.incoming_event import Delivery


def announcement(delivery: Delivery, contact_key: str) -> Outgoing:
    """The message of `delivery`, whose contact is known by `contact_key`."""
    ref = delivery.ref
    event = Event(
        id=ref.id,
        event=delivery.event,
        user_id=delivery.user_id,
        contact_key=contact_key,
        source=ref.source,
        occurred_at=delivery.occurred_at,
        received_at=delivery.received_at,
        properties=delivery.properties,
        email=delivery.email,
        person_properties=delivery.person_properties,
    )
    return Outgoing(
        subjects.event(delivery.event),
        msgspec.json.encode(event),
        message_headers(
            id=ref.id,
            source=ref.source,
            type="event",
            time=delivery.occurred_at,
            correlation_id=delivery.correlation_id,
        ),
    )
