"""Records an event that a service reports directly: stores and publishes it before the reply."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import msgspec

from hogsend.contract import subjects
from hogsend.contract.engagement import CATALOG, Engagement
from hogsend.contract.errors import InvalidRequest, PublishRejected, TooLarge, Unavailable
from hogsend.contract.events import Recorded, RecordEvent
from hogsend.contract.headers import message_headers
from hogsend.contract.identity import contact_email, is_blank
from hogsend.contract.moments import utc_in_range
from hogsend.service.nul import json_without_nul
from hogsend.transport.publisher import ACKNOWLEDGE_ALL_SECONDS, OutgoingMessage, Publisher
from services.ingest import metrics
from services.ingest.events.event_message import event_message
from services.ingest.events.outcome import Rejected, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent, reported_id
from services.ingest.sources.engagement import FULL_CONTACT, RECORDER, SOURCE


class Recorder:
    """Stores and publishes one event at a time; when `record` returns, neither can be lost."""

    def __init__(self, store: EventStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def record(self, request: RecordEvent, correlation_id: str | None) -> Recorded:
        """Store an event and publish it; an event with the same key is stored once.

        Raises:
            InvalidRequest: the event has no identity, or PostgreSQL or the bus rejects it.
            Unavailable: PostgreSQL or NATS is unavailable. The event may be stored nevertheless. A
                repetition with the same key is published, but not stored again.
        """
        event = _decode(request, correlation_id)
        started_at = asyncio.get_running_loop().time()
        (outcome,) = await self._store.save([event])
        if isinstance(outcome, Rejected):
            raise InvalidRequest("the event cannot be stored; a number in it may be out of range")
        if outcome.status is Status.ERASED or await self._store.find_erased(
            [event], since=started_at
        ):
            return Recorded(id=event.ref.id, stored=False, contact_key="")
        contact_key = outcome.contact_key
        is_new = outcome.status is Status.STORED
        metrics.STORED.inc(is_new)
        metrics.DUPLICATES.inc(not is_new)
        # A known event is published, too: the call that stored it may have ended before it
        # published. JetStream drops the duplicate.
        await self._publish(event_message(event, contact_key))
        # Counted here: the copy for destinations below is not counted.
        metrics.PUBLISHED.inc()
        # Destinations identify people by the data, so an event without a person is not for them.
        is_for_destinations = event.name in CATALOG and bool(contact_key or event.email)
        if is_for_destinations and not await self._store.find_erased([event], since=started_at):
            await self._publish(_engagement(event, contact_key))
        return Recorded(id=event.ref.id, stored=is_new, contact_key=contact_key)

    async def _publish(self, message: OutgoingMessage) -> None:
        try:
            await self._publisher.publish(message, within=ACKNOWLEDGE_ALL_SECONDS)
        except TooLarge as error:
            raise InvalidRequest(
                "the event is stored, but too large to be published on the bus"
            ) from error
        except PublishRejected as error:
            raise Unavailable(str(error)) from error


def _decode(request: RecordEvent, correlation_id: str | None) -> IncomingEvent:
    if is_blank(request.user_id) and is_blank(request.email):
        raise InvalidRequest("userId or email is required")
    occurred_at = utc_in_range(request.occurred_at) if request.occurred_at is not None else None
    # PostgreSQL cannot store NUL characters.
    without_nul = json_without_nul(msgspec.json.encode(request))
    request = msgspec.json.decode(without_nul, type=RecordEvent)
    email, key = contact_email(request.email), request.idempotency_key
    id = reported_id(key, request.user_id, email) if key else str(uuid4())
    return IncomingEvent(
        ref=EventRef(SOURCE, id),
        name=request.event,
        user_id=request.user_id,
        email=email,
        occurred_at=occurred_at or request.received_at,
        received_at=request.received_at,
        properties=request.properties,
        person_properties=request.contact_properties,
        correlation_id=correlation_id,
    )


def _engagement(event: IncomingEvent, contact_key: str) -> OutgoingMessage:
    """Build the same event for destinations, which identify people by the data."""
    data = {**event.properties}
    data.setdefault("userId", contact_key)
    if event.name in FULL_CONTACT:
        # The id by which a destination sends a contact that has no `externalId`.
        data.setdefault("id", contact_key)
    if event.email is not None:
        data.setdefault("to", event.email)
    happened = Engagement(id=event.ref.id, type=event.name, timestamp=event.occurred_at, data=data)
    return OutgoingMessage(
        subjects.engagement(event.name),
        msgspec.json.encode(happened),
        message_headers(
            id=event.message_id,
            source=RECORDER,
            type="engagement",
            time=event.occurred_at,
            correlation_id=event.correlation_id,
        ),
    )
