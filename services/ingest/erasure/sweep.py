"""Deletes an erased person's messages from every stream, and overwrites their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from nats.js import errors as js_errors

from hogsend.contract import subjects
from hogsend.contract.consumers import API
from hogsend.contract.dead_letters import read_letter
from hogsend.contract.headers import CE_TIME, RECEIVED_AT
from hogsend.contract.json_text import NOT_JSON, repaired_json
from hogsend.contract.moments import read_moment
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.erasure.person import Identities, Person, identities_in
from services.ingest.jetstream_errors import available
from services.ingest.stored_messages import (
    BATCH,
    BATCH_BYTES,
    StoredMessage,
    delete_message,
    read_batch,
)

SWEPT = {
    StreamName.WEBHOOKS: f"{subjects.WEBHOOKS}.>",
    # Events, and the copies of a replay; not the announcements of erasures, which have more tokens.
    StreamName.EVENTS: f"{subjects.PREFIX}.*.*",
    StreamName.ENGAGEMENT: f"{subjects.ENGAGEMENT}.>",
    StreamName.PERSONS: f"{subjects.PERSONS}.>",
    StreamName.DEADLETTER: f"{subjects.DEADLETTER}.>",
}
"""Streams with people's data, and the subjects on them that carry it."""


class _Times(msgspec.Struct, frozen=True, rename="camel"):
    """The times in the body of an event or of a report."""

    occurred_at: str | None = None
    received_at: str | None = None
    timestamp: str | None = None


def is_to_erase(
    stream: StreamName, message: StoredMessage, person: Person, before: datetime
) -> bool:
    """Whether a message is about `person` and about something that happened before the erasure.

    What happened afterwards belongs to a new contact. A message that was published after the
    erasure may be about something before it: a stored event that was published late, or a dead
    letter.
    """
    return _MessagePeople.of(stream, message).is_about(Erased(person, before))


class Erased(NamedTuple):
    """A person whose messages are to be deleted."""

    person: Person
    before: datetime
    """When they were erased."""


class _MessagePeople(NamedTuple):
    """The people whom a message is about, and when that happened."""

    at: datetime
    identities: Identities

    @classmethod
    def of(cls, stream: StreamName, message: StoredMessage) -> _MessagePeople:
        """Read a message; of a dead letter, read the original message."""
        subject, headers, body = message.subject, message.headers, message.body
        if stream is StreamName.DEADLETTER:
            try:
                letter = read_letter(headers, body)
            except NOT_JSON:
                pass
            else:
                subject, headers, body = letter.subject, letter.headers, letter.body
        return cls(min([message.at, *_times_in(headers, body)]), identities_in(subject, body))

    def is_about(self, erased: Erased) -> bool:
        return self.at <= erased.before and erased.person.is_named_in(self.identities)


def _times_in(headers: Mapping[str, str], body: bytes) -> Iterator[datetime]:
    """The times of occurrence, receipt and creation in a message's headers and body."""
    try:
        times = msgspec.json.decode(repaired_json(body), type=_Times)
    except NOT_JSON:
        times = _Times()
    for text in (
        *(headers.get(RECEIVED_AT), headers.get(CE_TIME)),
        *(times.occurred_at, times.received_at, times.timestamp),
    ):
        if (time := read_moment(text)) is not None:
            yield time


async def sweep(
    connection: Connection, erased: Sequence[Erased]
) -> AsyncIterator[Sequence[Erased]]:
    """Delete the messages of several people from every stream; reads each stream once.

    Yields for each deleted message those of `erased` whom it was about.

    Raises:
        Unavailable: JetStream does not answer; sweep again.
    """
    with available(connection):
        for stream in SWEPT:
            async for message in _messages(connection, stream):
                people = _MessagePeople.of(stream, message)
                about = [person for person in erased if people.is_about(person)]
                if about and await delete_message(connection, stream, message.sequence):
                    yield about


class FoundMessages(NamedTuple):
    """Messages about a person, from a part of the streams."""

    messages: list[tuple[StreamName, StoredMessage]]
    next_position: str | None
    """`stream/sequence` from which to continue; None when all streams were read."""


MAX_BATCHES = 8
"""Most batches that one call of `find_messages` reads."""


async def find_messages(
    connection: Connection, *, stream: str | None, first: int, person: Person
) -> FoundMessages:
    """Find messages about `person` from a position on, without deleting them.

    Args:
        connection: of a user who may read the streams.
        stream: where to start; None is the first stream.
        first: sequence to start with.
        person: whose messages.

    Raises:
        Unavailable: JetStream does not answer.
        ValueError: `stream` is none of the streams with people's data.
    """
    streams = list(SWEPT)
    index = streams.index(StreamName(stream)) if stream else 0
    found: list[tuple[StreamName, StoredMessage]] = []
    size = 0
    with available(connection):
        for _ in range(MAX_BATCHES):
            name = streams[index]
            batch = await _batch_within_range(connection, name, first)
            now = datetime.now(UTC)
            matches = [message for message in batch if is_to_erase(name, message, person, now)]
            found += [(name, message) for message in matches]
            size += sum(len(message.body) for message in matches)
            if batch:
                first = batch[-1].sequence + 1
            else:
                index, first = index + 1, 1
            if index == len(streams):
                return FoundMessages(found, None)
            if size > BATCH_BYTES:
                break
    return FoundMessages(found, f"{streams[index]}/{first}")


async def _batch_within_range(
    connection: Connection, stream: StreamName, first: int
) -> list[StoredMessage]:
    stream_first, last = await _sequence_range(connection, stream)
    start = max(stream_first, first)
    return await _batch(connection, stream, start) if start <= last else []


async def _messages(connection: Connection, stream: StreamName) -> AsyncIterator[StoredMessage]:
    """The messages that are in the stream now, oldest first."""
    first, last = await _sequence_range(connection, stream)
    while first <= last:
        batch = await _batch(connection, stream, first)
        for message in batch:
            if message.sequence <= last:
                yield message
        if not batch:
            return
        first = batch[-1].sequence + 1


async def _sequence_range(connection: Connection, stream: StreamName) -> tuple[int, int]:
    """First and last sequence of a stream; the last is 0 if the stream does not exist."""
    try:
        subject, request = f"{API}.STREAM.INFO.{stream}", connection.js.stream_info(stream)
        state = (await connection.refusals.wait_unless_refused(subject, request)).state
    except js_errors.NotFoundError:
        # The service that owns the stream was never started here.
        return 1, 0
    return max(state.first_seq, 1), state.last_seq


async def _batch(connection: Connection, stream: StreamName, first: int) -> list[StoredMessage]:
    return await read_batch(connection, stream, first=first, subject=SWEPT[stream], most=BATCH)
