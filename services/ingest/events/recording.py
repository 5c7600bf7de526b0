"""Events that services and clients report to Hogsend itself: stored, announced, then answered."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from hogsend.contract import subjects
from hogsend.contract.engagement import CATALOG, Engagement
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.events import Recorded, RecordEvent
from hogsend.contract.headers import message_headers
from hogsend.transport.publisher import Outgoing, Publisher
from services.ingest import metrics
from services.ingest.events.event_message import announcement
from services.ingest.events.incoming_event import Delivery, EventRef
from services.ingest.events.store import EventStore
from services.ingest.sources.engagement import SOURCE


class Recorder:
    """Records one event at a time, and says so only when it cannot be lost any more."""

    def __init__(self, store: EventStore, publisher: Publisher) -> None:
        """Store in `store`, announce with `publisher`."""
        self._store = store
        self._publisher = publisher

    async def record(self, reported: RecordEvent, correlation_id: str | None) -> Recorded:
        """Store an event and announce it; one with a key that was seen before is stored once.

        Raises:
            InvalidRequest: it belongs to nobody, or PostgreSQL or the bus cannot hold it.
            Unavailable: PostgreSQL or NATS is away. It may be stored all the same: a repetition
                with the same key is not stored again, but announced.
        """
        delivery = _delivery(reported, correlation_id)
        saved = await self._store.save([delivery])
        if delivery.ref in saved.rejected:
            raise InvalidRequest(
                "the event cannot be stored; a text in it may hold NUL, or a number be out of range"
            )
        contact_key = saved.contact_keys[delivery.ref]
        is_new = delivery.ref in saved.new
        metrics.STORED.inc(is_new)
        metrics.DUPLICATES.inc(not is_new)
        # Whoever stored it before may have died before publishing; JetStream drops repeats.
        await self._announce([announcement(delivery, contact_key)])
        if delivery.event in CATALOG:
            await self._announce([_engagement(delivery, contact_key)])
        return Recorded(id=delivery.ref.id, stored=is_new, contact_key=contact_key)

    async def _announce(self, messages: list[Outgoing]) -> None:
        if await self._publisher.publish(messages):
            raise InvalidRequest("the event is stored, but too large to be announced on the bus")
        metrics.ANNOUNCED.inc(len(messages))


def _delivery(reported: RecordEvent, correlation_id: str | None) -> Delivery:
    if not reported.user_id.strip() and reported.email is None:
        raise InvalidRequest("say whose event it is: userId or email")
    return Delivery(
        ref=EventRef(SOURCE, reported.idempotency_key or str(uuid4())),
        event=reported.event,
        user_id=reported.user_id,
        email=reported.email,
        occurred_at=reported.occurred_at or reported.received_at,
        received_at=reported.received_at,
        properties=reported.properties,
        person_properties=reported.contact_properties,
        correlation_id=correlation_id,
    )


def _engagement(delivery: Delivery, contact_key: str) -> Outgoing:
    """The same thing for destinations, which know people by what the data says."""
    data = {**delivery.properties}
    data.setdefault("userId", contact_key)
    if delivery.email is not None:
        data.setdefault("to", delivery.email)
    id = delivery.ref.id
    happened = Engagement(id=id, type=delivery.event, timestamp=delivery.occurred_at, data=data)
    return Outgoing(
        subjects.engagement(delivery.event),
        msgspec.json.encode(happened),
        message_headers(
            id=id,
            source="ingest",
            type="engagement",
            time=delivery.occurred_at,
            correlation_id=delivery.correlation_id,
        ),
    )
