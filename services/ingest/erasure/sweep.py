"""Takes an erased person's messages off every stream, one by one, with their bytes overwritten."""

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
from hogsend.contract.json_text import NOT_JSON, mended_json
from hogsend.contract.moments import read_moment
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.erasure.person import Named, Person, named_in
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
    # Events, and copies of them that are replayed to a durable; not what tells of an erasure.
    StreamName.EVENTS: f"{subjects.PREFIX}.*.*",
    StreamName.ENGAGEMENT: f"{subjects.ENGAGEMENT}.>",
    StreamName.PERSONS: f"{subjects.PERSONS}.>",
    StreamName.DEADLETTER: f"{subjects.DEADLETTER}.>",
}
"""Streams that hold people's data, and the subjects on them that do."""


class _Times(msgspec.Struct, frozen=True, rename="camel"):
    """When what is told in a body happened: of an event, or of what a service reported."""

    occurred_at: str | None = None
    received_at: str | None = None
    timestamp: str | None = None


def is_to_erase(
    stream: StreamName, message: StoredMessage, person: Person, before: datetime
) -> bool:
    """Whether a message is about `person`, and tells what happened before the erasure.

    What the person does afterwards is a new person's. A message may have been published afterwards
    though it happened before: what was stored a moment ago, and what became a dead letter.
    """
    return _Told.by(stream, message).is_about(Erased(person, before))


class Erased(NamedTuple):
    """A person whose messages are to go."""

    person: Person
    before: datetime
    """When they were erased."""


class _Told(NamedTuple):
    """What a message says of whom it is about, and when that happened."""

    at: datetime
    named: Named

    @classmethod
    def by(cls, stream: StreamName, message: StoredMessage) -> _Told:
        """Read it; of a dead letter what was set aside."""
        subject, headers, body = message.subject, message.headers, message.body
        if stream is StreamName.DEADLETTER:
            try:
                letter = read_letter(headers, body)
            except NOT_JSON:
                pass
            else:
                subject, headers, body = letter.subject, letter.headers, letter.body
        return cls(min([message.at, *_told_at(headers, body)]), named_in(subject, body))

    def is_about(self, erased: Erased) -> bool:
        return self.at <= erased.before and erased.person.is_among(self.named)


def _told_at(headers: Mapping[str, str], body: bytes) -> Iterator[datetime]:
    """Every time at which a message says that it happened, was received, or was made."""
    try:
        times = msgspec.json.decode(mended_json(body), type=_Times)
    except NOT_JSON:
        times = _Times()
    for text in (
        *(headers.get(RECEIVED_AT), headers.get(CE_TIME)),
        *(times.occurred_at, times.received_at, times.timestamp),
    ):
        if (told := read_moment(text)) is not None:
            yield told


async def sweep(
    connection: Connection, erased: Sequence[Erased]
) -> AsyncIterator[Sequence[Erased]]:
    """Delete the messages of all of them from every stream, which is read once.

    Yields for each message that is gone whom of them it was about.

    Raises:
        Unavailable: JetStream does not answer; sweeping again goes on.
    """
    with available(connection):
        for stream in SWEPT:
            async for message in _messages(connection, stream):
                told = _Told.by(stream, message)
                about = [one for one in erased if told.is_about(one)]
                if about and await delete_message(connection, stream, message.sequence):
                    yield about


class Found(NamedTuple):
    """Messages about a person, from a part of the streams."""

    messages: list[tuple[StreamName, StoredMessage]]
    following: str | None
    """`stream/sequence` where to go on; None when all streams were looked through."""


LOOK_BATCHES = 8
"""Batches that are read at once at most, whatever is found in them."""


async def look(connection: Connection, *, stream: str | None, first: int, person: Person) -> Found:
    """Look for messages about `person`, from a position on, and delete none.

    Raises:
        Unavailable: JetStream does not answer.
        ValueError: there is no such stream.
    """
    names = list(SWEPT)
    number = names.index(StreamName(stream)) if stream else 0
    found: list[tuple[StreamName, StoredMessage]] = []
    size = 0
    with available(connection):
        for _ in range(LOOK_BATCHES):
            name = names[number]
            batch = await _existing(connection, name, first)
            now = datetime.now(UTC)
            about = [one for one in batch if is_to_erase(name, one, person, now)]
            found += [(name, one) for one in about]
            size += sum(len(one.body) for one in about)
            if batch:
                first = batch[-1].sequence + 1
            else:
                number, first = number + 1, 1
            if number == len(names):
                return Found(found, None)
            if size > BATCH_BYTES:
                break
    return Found(found, f"{names[number]}/{first}")


async def _existing(connection: Connection, stream: StreamName, first: int) -> list[StoredMessage]:
    there, last = await _range(connection, stream)
    start = max(there, first)
    return await _batch(connection, stream, start) if start <= last else []


async def _messages(connection: Connection, stream: StreamName) -> AsyncIterator[StoredMessage]:
    """What the stream holds now, oldest first."""
    first, last = await _range(connection, stream)
    while first <= last:
        batch = await _batch(connection, stream, first)
        for message in batch:
            if message.sequence <= last:
                yield message
        if not batch:
            return
        first = batch[-1].sequence + 1


async def _range(connection: Connection, stream: StreamName) -> tuple[int, int]:
    """First and last sequence of a stream; the last is 0 when there is nothing."""
    try:
        asked, asking = f"{API}.STREAM.INFO.{stream}", connection.js.stream_info(stream)
        state = (await connection.wait_unless_refused(asked, asking)).state
    except js_errors.NotFoundError:
        # Its owner was never started here.
        return 1, 0
    return max(state.first_seq, 1), state.last_seq


async def _batch(connection: Connection, stream: StreamName, first: int) -> list[StoredMessage]:
    return await read_batch(connection, stream, first=first, subject=SWEPT[stream], most=BATCH)
