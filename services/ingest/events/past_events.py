"""Stores events that a backfill reads from PostHog, and publishes them if that is requested."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec
import structlog

from hogsend.contract.backfills import PastEvent, PastStored, StorePast
from hogsend.contract.base import Properties
from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.headers import format_time
from hogsend.contract.webhooks import PostHogEvent
from hogsend.service import metrics as shared_metrics
from hogsend.service.dead_letters import Unprocessable
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest import metrics
from services.ingest.events.event_message import event_message
from services.ingest.events.outcome import Rejected, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import IncomingEvent
from services.ingest.sources import posthog

log = structlog.get_logger(__name__)


class _Person(msgspec.Struct, frozen=True):
    properties: Properties


class _Webhook(msgspec.Struct, frozen=True):
    """The webhook that PostHog would have sent for an event."""

    event: PostHogEvent
    person: _Person


class PastEvents:
    """Stores events of a backfill under the same keys as webhooks, so that each is stored once."""

    def __init__(self, store: EventStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def record(self, request: StorePast) -> PastStored:
        """Store events, and publish those that are new if that is requested.

        A repeated request with the same time of receipt publishes the same events again, with the
        same message ids: the call before may have ended between the commit and the publish.

        Raises:
            Unavailable: PostgreSQL or NATS is unavailable; repeat the whole request.
        """
        all_decoded = (_decode(event, request.received_at) for event in request.events)
        decoded = [event for event in all_decoded if event is not None]
        started_at = asyncio.get_running_loop().time()
        outcomes = await self._store.save(decoded) if decoded else []
        new: list[tuple[IncomingEvent, str]] = []
        stored = known = 0
        for event, outcome in zip(decoded, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                _log_unstored(event.ref.id, outcome.why)
            elif outcome.status in {Status.KNOWN, Status.ERASED}:
                # Neither is published: events of an erased person must not return.
                known += 1
            else:
                stored += 1
                new.append((event, outcome.contact_key))
        if request.announce:
            erased = await self._store.find_erased([event for event, _ in new], since=started_at)
            await self._announce(
                [event_message(*item) for index, item in enumerate(new) if index not in erased]
            )
        metrics.STORED.inc(stored)
        metrics.DUPLICATES.inc(known)
        return PastStored(stored=stored, known=known, rejected=len(request.events) - stored - known)

    async def _announce(self, messages: list[OutgoingMessage]) -> None:
        outcomes = await self._publisher.publish_all(messages)
        for outcome in outcomes:
            if isinstance(outcome, PublishRejected):
                raise Unavailable(str(outcome)) from outcome
            if isinstance(outcome, TooLarge):
                shared_metrics.FAILURES.labels("past_events", outcome.code).inc()
                log.warning("a past event is stored, but too large for the bus")
        metrics.PUBLISHED.inc(outcomes.count(None))


def _decode(event: PastEvent, received_at: datetime) -> IncomingEvent | None:
    webhook = _Webhook(
        PostHogEvent(
            event=event.event,
            distinct_id=event.distinct_id,
            uuid=event.uuid,
            timestamp=format_time(event.timestamp),
            properties=event.properties,
        ),
        _Person(event.person_properties),
    )
    try:
        decoded = posthog.decode(msgspec.json.encode(webhook), {}, received_at)
    except Unprocessable as why:
        _log_unstored(event.uuid, why)
        return None
    return msgspec.structs.replace(decoded, backfilled=True, queued_at=None)


def _log_unstored(id: str, why: Unprocessable) -> None:
    shared_metrics.FAILURES.labels("past_events", why.reason).inc()
    log.warning("a past event was not stored", id=id, reason=why.reason)
