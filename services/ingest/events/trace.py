"""Traces one event: its times, and its announcement, found again in the stream.

When it was queued and stored is in its row. Announcements of the event's name are read from the
time of its receipt on, until its own is among them. It was announced when the stream took that
message.
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

MOST_BATCHES = 8
"""Announcements of one name that are read for one event: 2,048, or 32 MiB."""
CLOCKS_DIFFER = timedelta(seconds=1)
"""Between the gateway, which says when an event was received, and NATS."""


class EventTraces:
    """Finds what became of events."""

    def __init__(self, database: Database, events: EventList, link: Connection) -> None:
        self._database = database
        self._events = events
        self._link = link

    async def trace(self, wanted: TraceEvent) -> EventTrace:
        """Say what became of an event.

        Raises:
            NotFound: it is not stored.
            Unavailable: PostgreSQL does not answer. Without NATS the announcement is `unknown`.
        """
        page = await self._events.page(
            ListEvents(
                id=wanted.id,
                source=wanted.source,
                event=wanted.event,
                user_id=wanted.user_id,
                limit=1,
            )
        )
        if not page.events:
            raise NotFound("there is no such event; it may have been deleted")
        (event,) = page.events
        async with self._database.acquire() as connection:
            row = await _queries.way(
                connection,
                source=event.source,
                id=event.id,
                event=event.event,
                user_id=event.user_id,
            )
        known_as = event_message_id(
            source=event.source, id=event.id, event=event.event, user_id=event.user_id
        )
        try:
            announcement = await self._announcement(event, known_as)
        except (Unavailable, Forbidden) as error:
            metrics.FAILURES.labels("trace", error.code).inc()
            log.debug("it is not known whether an event was announced", reason=str(error))
            announcement = Announcement(state="unknown")
        return EventTrace(
            event=event,
            correlation_id=row and row["correlation_id"],
            queued_at=row and row["queued_at"],
            stored_at=row and row["stored_at"],
            announcement=announcement,
        )

    async def _announcement(self, event: StoredEvent, known_as: str) -> Announcement:
        subject = subjects.event(event.event)
        since: datetime | None = event.received_at - CLOCKS_DIFFER
        first: int | None = None
        for _ in range(MOST_BATCHES):
            batch = await read_batch(
                self._link,
                StreamName.EVENTS,
                first=first,
                since=since,
                subject=subject,
                most=BATCH,
            )
            for message in batch:
                if message_id(message.headers) == known_as:
                    return Announcement(
                        state="announced",
                        at=message.at,
                        sequence=message.sequence,
                        trace_id=_trace_id(message.headers.get(TRACEPARENT)),
                    )
            if not batch:
                return Announcement(state=await self._missing(event.received_at))
            first, since = batch[-1].sequence + 1, None
        return Announcement(state="unknown")

    async def _missing(self, received: datetime) -> Literal["absent", "expired"]:
        state = await stream_state(self._link, StreamName.EVENTS)
        if not state.messages:
            return "expired" if state.last_seq else "absent"
        oldest = max(state.first_seq, 1)
        first = await read_batch(self._link, StreamName.EVENTS, first=oldest, most=1)
        return "expired" if not first or first[0].at > received else "absent"


def _trace_id(traceparent: str | None) -> str | None:
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) > 1 else None
