"""Events as they were announced: read from the stream EVENTS, and from PostgreSQL what is older.

The stream has what was published, byte by byte. A row has neither the email address nor the
properties of the person that came with the event.
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
from services.ingest.pages import EventPosition, read_on
from services.ingest.queries import load
from services.ingest.stored_messages import BATCH, BATCH_BYTES, StoredMessage, read_batch
from services.ingest.stream_state import stream_state

UNORDERED = timedelta(minutes=1)
"""Events that are received so close to each other may be announced in any order."""

_FROM_JETSTREAM = "nats-"

_queries = load(Path(__file__).with_name("queries.sql"))
_properties = msgspec.json.Decoder(Properties).decode


class Announced(NamedTuple):
    """An event, with where to go on reading behind it."""

    subject: str
    """What it is, or was, announced on."""
    body: bytes
    headers: Mapping[str, str]
    occurred_at: datetime
    received_at: datetime
    sequence: int
    """Where it is in the stream; 0 from PostgreSQL."""
    row: EventPosition | None = None
    """Where it is in PostgreSQL; None from the stream."""


class Extent(NamedTuple):
    """What the stream holds."""

    last: int
    """Sequence of its last message."""
    received_since: datetime | None
    """When the first of its events was received; None without events."""


class _Times(msgspec.Struct, frozen=True, rename="camel"):
    occurred_at: datetime
    received_at: datetime


class AnnouncedEvents:
    """Reads events in the order in which they were announced, as far as that is known."""

    def __init__(self, link: Connection, database: Database) -> None:
        self._link = link
        self._database = database

    async def now(self) -> datetime:
        """The time by PostgreSQL's clock, which is the same for every replica.

        Raises:
            Unavailable: PostgreSQL cannot be used.
        """
        async with self._database.acquire() as connection:
            return cast("datetime", await _queries.now(connection))

    async def extent(self) -> Extent:
        """What the stream holds now.

        Raises:
            Unavailable: JetStream does not answer.
        """
        state = await stream_state(self._link, StreamName.EVENTS)
        first = await self.in_stream(max(state.first_seq, 1), most=1)
        return Extent(state.last_seq, first[0].received_at if first else None)

    async def in_stream(self, sequence: int, *, most: int | None = None) -> list[Announced]:
        """Events of the stream from a sequence on, so many at most; empty at its end.

        Raises:
            Unavailable: JetStream does not answer.
        """
        while stored := await self._stored(first=sequence, most=most or BATCH):
            read = [_of_message(one) for one in stored]
            if found := [event for event in read if event is not None]:
                return found
            sequence = stored[-1].sequence + 1
        return []

    async def first_in_stream(self, at: datetime) -> int | None:
        """Sequence of the first event that the stream took then or later; None without one.

        Raises:
            Unavailable: JetStream does not answer.
        """
        found = await self._stored(since=at, most=1)
        return found[0].sequence if found else None

    async def at_beginning(self, received_before: datetime) -> frozenset[str]:
        """Message ids of the stream's first events, up to those that were received later.

        Raises:
            Unavailable: JetStream does not answer.
        """
        found: set[str] = set()
        sequence = 1
        while batch := await self.in_stream(sequence):
            found |= {message_id(one.headers) or "" for one in batch}
            if min(one.received_at for one in batch) >= received_before:
                break
            sequence = batch[-1].sequence + 1
        return frozenset(found)

    async def in_database(
        self,
        since: datetime,
        until: datetime,
        *,
        received_before: datetime | None,
        after: EventPosition | None,
    ) -> list[Announced]:
        """Events that happened in a span, and were received before a moment; empty at the end.

        Raises:
            Unavailable: PostgreSQL cannot be used.
        """
        async with self._database.transaction() as connection:
            found = _queries.happened_cursor(
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
            read, size = list[Announced](), 0
            async with aclosing(read_on(found)) as rows:
                async for row in rows:
                    read.append(_of_row(row))
                    size += len(read[-1].body)
                    if size > BATCH_BYTES:
                        break
            return read

    async def _stored(
        self, *, first: int | None = None, since: datetime | None = None, most: int
    ) -> list[StoredMessage]:
        only = f"{subjects.EVENTS}.*"
        return await read_batch(
            self._link, StreamName.EVENTS, first=first, since=since, subject=only, most=most
        )


def _of_message(message: StoredMessage) -> Announced | None:
    headers = message.headers
    try:
        times = msgspec.json.decode(message.body, type=_Times)
    except NOT_JSON:
        # Not an event: a subscriber can have JetStream put its answers there (docs/adr/0012).
        return None
    return Announced(
        message.subject,
        message.body,
        {
            name: value
            for name, value in headers.items()
            # Its message id is kept: it is the event's own, for the new message to name.
            if name == "Nats-Msg-Id" or not name.lower().startswith(_FROM_JETSTREAM)
        },
        times.occurred_at,
        times.received_at,
        message.sequence,
    )


def _of_row(row: Mapping[str, Any]) -> Announced:
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
    return Announced(
        message.subject,
        message.body,
        message.headers,
        event.occurred_at,
        event.received_at,
        0,
        EventPosition(*(row[name] for name in EventPosition.__struct_fields__)),
    )
