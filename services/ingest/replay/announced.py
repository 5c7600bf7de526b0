"""Reads events that were announced: from the stream EVENTS, and older ones from PostgreSQL.

The stream has each message as it was published. A row lacks the email address and the person's
properties that came with the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.events import Event
from hogsend.contract.headers import message_id
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.events.event_message import message_of
from services.ingest.pages import EventPosition, read_rows
from services.ingest.queries import load
from services.ingest.stored_messages import BATCH, BATCH_BYTES, StoredMessage, read_batch
from services.ingest.stream_state import stream_state

REORDERED_WITHIN = timedelta(minutes=1)
"""Events that were received within this time of each other may be announced in any order."""

_JETSTREAM_HEADERS = "nats-"

_queries = load(Path(__file__).with_name("queries.sql"))
_properties = msgspec.json.Decoder(Properties).decode


class AnnouncedEvent(NamedTuple):
    """An event, with its position in the place it was read from."""

    subject: str
    """The subject on which it was announced."""
    body: bytes
    headers: Mapping[str, str]
    occurred_at: datetime
    received_at: datetime
    sequence: int
    """Its sequence in the stream; 0 if it was read from PostgreSQL."""
    row: EventPosition | None = None
    """Its position in PostgreSQL; None if it was read from the stream."""


class StreamExtent(NamedTuple):
    """The range of events in the stream."""

    last: int
    """Sequence of the last message."""
    received_since: datetime | None
    """When the first event was received; None without events."""


class _Times(msgspec.Struct, frozen=True, rename="camel"):
    occurred_at: datetime
    received_at: datetime


class AnnouncedEvents:
    """Reads events in the order in which they were announced, as far as that order is known."""

    def __init__(self, link: Connection, database: Database) -> None:
        self._link = link
        self._database = database

    async def current_time(self) -> datetime:
        """Return the time by PostgreSQL's clock, which is the same for every replica.

        Raises:
            Unavailable: PostgreSQL cannot be used.
        """
        async with self._database.acquire() as connection:
            return cast("datetime", await _queries.current_time(connection))

    async def extent(self) -> StreamExtent:
        """Return the range of events that are in the stream now.

        Raises:
            Unavailable: JetStream does not answer.
        """
        state = await stream_state(self._link, StreamName.EVENTS)
        first = await self.read_stream(max(state.first_seq, 1), most=1)
        return StreamExtent(state.last_seq, first[0].received_at if first else None)

    async def read_stream(self, sequence: int, *, most: int | None = None) -> list[AnnouncedEvent]:
        """Read events of the stream from a sequence on; empty at the end of the stream.

        Args:
            sequence: where to start.
            most: most messages to read at a time.

        Raises:
            Unavailable: JetStream does not answer.
        """
        while messages := await self._read_batch(first=sequence, most=most or BATCH):
            decoded = map(_from_message, messages)
            if events := [event for event in decoded if event is not None]:
                return events
            sequence = messages[-1].sequence + 1
        return []

    async def first_sequence_since(self, at: datetime) -> int | None:
        """Sequence of the first message that was stored at or after a time; None without one.

        Raises:
            Unavailable: JetStream does not answer.
        """
        messages = await self._read_batch(since=at, most=1)
        return messages[0].sequence if messages else None

    async def ids_at_start(self, received_before: datetime) -> frozenset[str]:
        """Message ids of the first events in the stream, with all received before a moment.

        Raises:
            Unavailable: JetStream does not answer.
        """
        ids: set[str] = set()
        sequence = 1
        while events := await self.read_stream(sequence):
            ids |= {message_id(event.headers) or "" for event in events}
            if min(event.received_at for event in events) >= received_before:
                break
            sequence = events[-1].sequence + 1
        return frozenset(ids)

    async def read_database(
        self,
        since: datetime,
        until: datetime,
        *,
        received_before: datetime | None,
        after: EventPosition | None,
    ) -> list[AnnouncedEvent]:
        """Read the next events from PostgreSQL; empty at the end.

        Args:
            since: read events that occurred then or later.
            until: read events that occurred before.
            received_before: read events that were received before; None is all.
            after: position of the last event that was read before.

        Raises:
            Unavailable: PostgreSQL is unavailable.
        """
        async with self._database.transaction() as connection:
            cursor = _queries.events_between_cursor(
                connection,
                since=since,
                until=until,
                received_before=received_before,
                after=after is not None,
                after_occurred=after and after.occurred_at,
                after_received=after and after.received_at,
                after_source=after and after.source,
                after_id=after and after.id,
                after_event=after and after.event_hash,
                after_user=after and after.user_hash,
                limit=BATCH,
            )
            events, size = list[AnnouncedEvent](), 0
            async with aclosing(read_rows(cursor)) as rows:
                async for row in rows:
                    events.append(_from_row(row))
                    size += len(events[-1].body)
                    if size > BATCH_BYTES:
                        break
            return events

    async def _read_batch(
        self, *, first: int | None = None, since: datetime | None = None, most: int
    ) -> list[StoredMessage]:
        subject = f"{subjects.EVENTS}.*"
        return await read_batch(
            self._link, StreamName.EVENTS, first=first, since=since, subject=subject, most=most
        )


def _from_message(message: StoredMessage) -> AnnouncedEvent | None:
    headers = message.headers
    try:
        times = msgspec.json.decode(message.body, type=_Times)
    except NOT_JSON:
        # Not an event: a subscriber can have JetStream store its replies there (docs/adr/0012).
        return None
    return AnnouncedEvent(
        message.subject,
        message.body,
        {
            name: value
            for name, value in headers.items()
            # The message id is kept: it identifies the event, and the copy refers to it.
            if name == "Nats-Msg-Id" or not name.lower().startswith(_JETSTREAM_HEADERS)
        },
        times.occurred_at,
        times.received_at,
        message.sequence,
    )


def _from_row(row: Mapping[str, Any]) -> AnnouncedEvent:
    event = Event(
        id=row["id"],
        event=row["event"],
        user_id=row["user_id"],
        contact_key=row["contact_key"],
        source=row["source"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        properties=_properties(row["properties"]),
    )
    message = message_of(event, id=event.key, correlation_id=row["correlation_id"])
    return AnnouncedEvent(
        message.subject,
        message.body,
        message.headers,
        event.occurred_at,
        event.received_at,
        0,
        EventPosition(*(row[name] for name in EventPosition.__struct_fields__)),
    )
