"""Traces one event: when it was queued, stored and announced.

The row has the times at which the event was queued and stored. Its announcement is searched in the
stream: messages with the event's name are read from its time of receipt on. It was announced when
the stream stored its message.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import aiosql
import structlog

from hogsend.contract import subjects
from hogsend.contract.errors import Forbidden, NotFound, Unavailable
from hogsend.contract.events import Announcement, EventTrace, ListEvents, StoredEvent, TraceEvent
from hogsend.contract.headers import TRACEPARENT, event_message_id, message_id
from hogsend.contract.streams import StreamName
from hogsend.service import metrics
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.events.listing import EventList
from services.ingest.stored_messages import BATCH, read_batch
from services.ingest.stream_state import stream_state

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")

MAX_BATCHES = 8
"""Most batches that are read for one event: 2,048 messages, or 32 MiB."""
CLOCK_SKEW = timedelta(seconds=1)
"""How far the gateway's clock, which sets the time of receipt, may be ahead of JetStream's."""


class EventTraces:
    """Traces stored events."""

    def __init__(self, database: Database, events: EventList, link: Connection) -> None:
        self._database = database
        self._events = events
        self._link = link

    async def trace(self, request: TraceEvent) -> EventTrace:
        """Return the times of an event, and its announcement.

        Raises:
            NotFound: the event is not stored.
            Unavailable: PostgreSQL is unavailable. Without NATS the announcement is `unknown`.
        """
        page = await self._events.page(
            ListEvents(
                id=request.id,
                source=request.source,
                event=request.event,
                user_id=request.user_id,
                limit=1,
            )
        )
        if not page.events:
            raise NotFound("there is no such event; it may have been deleted")
        (event,) = page.events
        async with self._database.acquire() as connection:
            row = await _queries.stages(
                connection,
                source=event.source,
                id=event.id,
                event=event.event,
                user_id=event.user_id,
            )
        event_key = event_message_id(
            source=event.source, id=event.id, event=event.event, user_id=event.user_id
        )
        try:
            announcement = await self._announcement(event, event_key)
        except (Unavailable, Forbidden) as error:
            metrics.FAILURES.labels("trace", error.code).inc()
            log.debug("the announcement of an event cannot be read", reason=str(error))
            announcement = Announcement(state="unknown")
        return EventTrace(
            event=event,
            correlation_id=row and row["correlation_id"],
            queued_at=row and row["queued_at"],
            stored_at=row and row["stored_at"],
            announcement=announcement,
        )

    async def _announcement(self, event: StoredEvent, event_key: str) -> Announcement:
        subject = subjects.event(event.event)
        since: datetime | None = event.received_at - CLOCK_SKEW
        first: int | None = None
        for _ in range(MAX_BATCHES):
            batch = await read_batch(
                self._link,
                StreamName.EVENTS,
                first=first,
                since=since,
                subject=subject,
                most=BATCH,
            )
            for message in batch:
                if message_id(message.headers) == event_key:
                    return Announcement(
                        state="announced",
                        at=message.at,
                        sequence=message.sequence,
                        trace_id=_trace_id(message.headers.get(TRACEPARENT)),
                    )
            if not batch:
                return Announcement(state=await self._why_absent(event.received_at))
            first, since = batch[-1].sequence + 1, None
        return Announcement(state="unknown")

    async def _why_absent(self, received: datetime) -> Literal["absent", "expired"]:
        state = await stream_state(self._link, StreamName.EVENTS)
        if not state.messages:
            return "expired" if state.last_seq else "absent"
        oldest = max(state.first_seq, 1)
        first = await read_batch(self._link, StreamName.EVENTS, first=oldest, most=1)
        return "expired" if not first or first[0].at > received else "absent"


def _trace_id(traceparent: str | None) -> str | None:
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) > 1 else None
