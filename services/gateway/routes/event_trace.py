"""`GET /v1/admin/events/trace`: what became of one event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
import structlog
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.destinations import (
    ANALYTICS_EVENT_DELIVERIES,
    EventDeliveriesOf,
    EventDelivery,
)
from hogsend.contract.engagement import Engagement, engagement_message_id
from hogsend.contract.errors import HogsendError, InvalidRequest
from hogsend.contract.events import INGEST_EVENT_TRACE, Announcement, StoredEvent, TraceEvent
from hogsend.contract.headers import event_message_id
from hogsend.contract.identity import contact_user_id
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import admin_errors

log = structlog.get_logger(__name__)

Name = Annotated[str, QueryParameter()]

MAX_CHARACTERS = 4096
"""Of each of what an event is known by. Not in the schema: four of them can be an address too long
for the server, which is 414."""


class EventWay(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An event, and what became of it."""

    event: StoredEvent
    """`receivedAt` is the gateway's time, before it was queued."""
    correlation_id: str | None
    """Of the request that brought it, as logs have it."""
    queued_at: datetime | None
    """When JetStream had it, by its clock; null for what is stored without a queue, as by
    `POST /v1/events`, and for events that were stored before 0.2.0."""
    stored_at: datetime | None
    """When PostgreSQL took it, by its clock; null for events that were stored before 0.2.0."""
    announcement: Announcement
    """On `hogsend.events.<event>`, just after it was stored."""
    deliveries: list[EventDelivery] | None
    """At destinations that have it in their history; null while analytics does not answer."""


@get(
    "/v1/admin/events/trace",
    guards=[admin_or_reader],
    operation_id="traceEvent",
    summary="Show what became of one event",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=admin_errors(400, 404),
)
async def trace_event(
    bus: NamedDependency[Connection],
    source: Name,
    id: Name,
    event: Name,
    user_id: Annotated[str, QueryParameter(name="userId")],
) -> EventWay:
    """Show when an event was received, queued, stored, announced and delivered, and where to.

    An event is known by all four of these; `userId` may be empty.
    """
    if max(map(len, (source, id, event, user_id))) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"source, id, event and userId have {MAX_CHARACTERS} characters at most"
        )
    wanted = TraceEvent(source=source, id=id, event=event, user_id=user_id)
    traced = await bus.request(INGEST_EVENT_TRACE, wanted)
    deliveries = await _deliveries(bus, _ids_at_destinations(traced.event))
    return EventWay(
        event=traced.event,
        correlation_id=traced.correlation_id,
        queued_at=traced.queued_at,
        stored_at=traced.stored_at,
        announcement=traced.announcement,
        deliveries=deliveries,
    )


def _ids_at_destinations(event: StoredEvent) -> list[str]:
    """What destinations may know an event as: what was posted, or what a service published."""
    # Where an address alone names the person, a digest of it follows the id that was reported.
    is_of_user = contact_user_id(event.user_id) is not None
    reported = event.id if is_of_user else event.id.rpartition(":")[0] or event.id
    posted_as = event_message_id(
        source=event.source, id=event.id, event=event.event, user_id=event.user_id
    )
    published = Engagement(
        id=reported, type=event.event, timestamp=event.occurred_at, data=event.properties
    )
    return list(dict.fromkeys((event.id, reported, posted_as, engagement_message_id(published))))


async def _deliveries(bus: Connection, ids: list[str]) -> list[EventDelivery] | None:
    try:
        found = await bus.request(ANALYTICS_EVENT_DELIVERIES, EventDeliveriesOf(event_ids=ids))
    except HogsendError as error:
        metrics.FAILURES.labels("trace", error.code).inc()
        log.info("an event's deliveries are not known", reason=str(error))
        return None
    return found.deliveries
