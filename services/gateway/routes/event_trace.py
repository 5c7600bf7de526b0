"""`GET /v1/admin/events/trace`: traces one event from its receipt to its deliveries."""

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

SOURCE = QueryParameter(description="`source` of the event, for example `posthog`.")
ID = QueryParameter(description="`id` of the event, for example PostHog's event uuid.")
EVENT = QueryParameter(description="Name of the event, for example `signed_up`.")
USER_ID = QueryParameter(name="userId", description="`userId` of the event. May be empty.")

MAX_CHARACTERS = 4096
"""Limit of each query parameter. It is not in the schema, because a URL with four values of that
length is too long for the server, which answers 414."""


class EventWay(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An event, and when each step of its processing happened."""

    event: StoredEvent
    """`receivedAt` is when the gateway received the event, before it was queued."""
    correlation_id: str | None
    """Id of the request that sent the event, as in logs."""
    queued_at: datetime | None
    """When JetStream stored the message, by JetStream's clock. Null for events that are not queued,
    such as those of `POST /v1/events`, and for events stored before version 0.2.0."""
    stored_at: datetime | None
    """When PostgreSQL stored the event, by PostgreSQL's clock. Null for events stored before
    version 0.2.0."""
    announcement: Announcement
    """The message on `hogsend.events.<event>`, which is published after the event was stored."""
    deliveries: list[EventDelivery] | None
    """Deliveries to destinations that have the event in their history. Null while analytics does
    not reply."""


@get(
    "/v1/admin/events/trace",
    guards=[admin_or_reader],
    operation_id="traceEvent",
    summary="Trace one event",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=admin_errors(400, 404),
)
async def trace_event(
    bus: NamedDependency[Connection],
    source: Annotated[str, SOURCE],
    id: Annotated[str, ID],
    event: Annotated[str, EVENT],
    user_id: Annotated[str, USER_ID],
) -> EventWay:
    """Show when an event was received, queued, stored, announced and delivered, and to where.

    All four parameters together identify the event. `userId` may be empty.
    """
    if max(map(len, (source, id, event, user_id))) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"source, id, event and userId have {MAX_CHARACTERS} characters at most"
        )
    query = TraceEvent(source=source, id=id, event=event, user_id=user_id)
    traced = await bus.request(INGEST_EVENT_TRACE, query)
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
    """Return the ids that an event may have at destinations, posted or published by a service."""
    # If only an email address names the person, its digest is appended to the reported id.
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
        reply = await bus.request(ANALYTICS_EVENT_DELIVERIES, EventDeliveriesOf(event_ids=ids))
    except HogsendError as error:
        metrics.FAILURES.labels("trace", error.code).inc()
        log.info("an event's deliveries are not known", reason=str(error))
        return None
    return reply.deliveries
