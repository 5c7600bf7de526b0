"""Events reported to Hogsend itself: stored and published before the answer."""

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
    """Stores and publishes one event at a time; it is safe once `record` returns."""

    def __init__(self, store: EventStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def record(self, reported: RecordEvent, correlation_id: str | None) -> Recorded:
        """Store an event and publish it; an event with a known key is stored once.

        Raises:
            InvalidRequest: it has no identity, or PostgreSQL or the bus cannot hold it.
            Unavailable: PostgreSQL or NATS is unavailable. The event may be stored all the same. A
                repetition with the same key is not stored again, but published.
        """
        event = _decode(reported, correlation_id)
        began_at = asyncio.get_running_loop().time()
        (outcome,) = await self._store.save([event])
        if isinstance(outcome, Rejected):
            raise InvalidRequest("the event cannot be stored; a number in it may be out of range")
        if outcome.status is Status.ERASED or await self._store.gone([event], since=began_at):
            return Recorded(id=event.ref.id, stored=False, contact_key="")
        contact_key = outcome.contact_key
        is_new = outcome.status is Status.STORED
        metrics.STORED.inc(is_new)
        metrics.DUPLICATES.inc(not is_new)
        # A known event is published too, because the call that stored it may have ended before it
        # published. JetStream drops the repeat.
        await self._publish(event_message(event, contact_key))
        # Destinations' copy of it is no announcement.
        metrics.PUBLISHED.inc()
        # Destinations know people by their data; an event without a person is not for them.
        is_for_them = event.name in CATALOG and bool(contact_key or event.email)
        if is_for_them and not await self._store.gone([event], since=began_at):
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


def _decode(reported: RecordEvent, correlation_id: str | None) -> IncomingEvent:
    if is_blank(reported.user_id) and is_blank(reported.email):
        raise InvalidRequest("userId or email is required")
    occurred_at = utc_in_range(reported.occurred_at) if reported.occurred_at is not None else None
    # PostgreSQL holds no NUL.
    mended = json_without_nul(msgspec.json.encode(reported))
    reported = msgspec.json.decode(mended, type=RecordEvent)
    email, key = contact_email(reported.email), reported.idempotency_key
    id = reported_id(key, reported.user_id, email) if key else str(uuid4())
    return IncomingEvent(
        ref=EventRef(SOURCE, id),
        name=reported.event,
        user_id=reported.user_id,
        email=email,
        occurred_at=occurred_at or reported.received_at,
        received_at=reported.received_at,
        properties=reported.properties,
        person_properties=reported.contact_properties,
        correlation_id=correlation_id,
    )


def _engagement(event: IncomingEvent, contact_key: str) -> OutgoingMessage:
    """Build the same event for destinations, which identify people by the data."""
    data = {**event.properties}
    data.setdefault("userId", contact_key)
    if event.name in FULL_CONTACT:
        # What a destination sends a contact as, when it has no `externalId`.
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
