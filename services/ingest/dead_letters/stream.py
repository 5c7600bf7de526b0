"""The stream `DEADLETTER`: reads letters in order, deletes one, purges many."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import msgspec

from hogsend.contract import subjects
from hogsend.contract.consumers import API
from hogsend.contract.dead_letters import DeadLetter, read_letter
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.jetstream_errors import available
from services.ingest.stored_messages import BATCH, StoredMessage, delete_message, read_batch
from services.ingest.stream_state import stream_state

UNREADABLE = "unreadable"
"""Reason that is listed for a message of the stream that is not a dead letter."""

REPLY_SECONDS = 5.0

_PURGE = f"{API}.STREAM.PURGE.{StreamName.DEADLETTER}"
_STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


class Letter(msgspec.Struct, frozen=True):
    """A dead letter and its place in the stream."""

    sequence: int
    content: DeadLetter


class Extent(msgspec.Struct, frozen=True):
    """First and last sequence of the stream, and the number of its letters."""

    first: int
    last: int
    count: int
    """Number of all letters, or of those from one stream of origin."""


class _Purged(msgspec.Struct, frozen=True):
    success: bool = False
    purged: int = 0


class DeadLetterStream:
    """Dead letters in the order they were published."""

    def __init__(self, connection: Connection) -> None:
        """Read over `connection`, which may connect later."""
        self._connection = connection

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that NATS carries; a reply must fit into it, too."""
        return self._connection.max_payload

    async def extent(self, origin: str | None = None) -> Extent:
        """Return the bounds of the stream and the number of letters from the stream `origin`.

        Raises:
            InvalidRequest: `origin` is not a valid name of a stream.
            Forbidden: this NATS user may not read the stream's state.
            Unavailable: JetStream does not answer.
        """
        pattern = subject_of(origin) if origin is not None else None
        state = await stream_state(self._connection, StreamName.DEADLETTER, pattern)
        count = state.messages
        if pattern is not None:
            count = (state.subjects or {}).get(pattern, 0)
        return Extent(max(state.first_seq, 1), state.last_seq, count)

    async def read(
        self, first: int, last: int, origin: str | None = None
    ) -> AsyncIterator[list[Letter]]:
        """Read letters from sequence `first` to `last`, both included, oldest first, in batches.

        Raises:
            InvalidRequest: `origin` is not a valid name of a stream.
            Unavailable: JetStream does not answer.
        """
        while first <= last:
            batch = await self._batch(first, min(BATCH, last - first + 1), origin)
            letters = [letter for letter in batch if letter.sequence <= last]
            if letters:
                yield letters
            if len(letters) < len(batch) or not batch:
                return
            first = batch[-1].sequence + 1

    async def delete(self, sequence: int) -> bool:
        """Delete one letter; returns False if it was deleted before.

        Raises:
            Unavailable: JetStream does not answer; the letter may be deleted nevertheless.
        """
        return await delete_message(self._connection, StreamName.DEADLETTER, sequence)

    async def purge(self, last: int, origin: str | None = None) -> int:
        """Delete every letter up to sequence `last`; returns their number.

        Raises:
            InvalidRequest: `origin` is not a valid name of a stream.
            Forbidden: this NATS user may not purge the stream.
            Unavailable: JetStream does not answer; the letters may be deleted nevertheless.
        """
        request: dict[str, int | str] = {"seq": last + 1}
        if origin is not None:
            request["filter"] = subject_of(origin)
        with available(self._connection):
            reply = await self._connection.request_raw(
                _PURGE, json.dumps(request).encode(), seconds=REPLY_SECONDS
            )
        result = msgspec.json.decode(reply.data, type=_Purged)
        if not result.success:
            raise Unavailable("JetStream refuses to purge the dead letters")
        return result.purged

    async def _batch(self, first: int, size: int, origin: str | None) -> list[Letter]:
        subject = subject_of(origin) if origin is not None else None
        stored = await read_batch(
            self._connection, StreamName.DEADLETTER, first=first, subject=subject, most=size
        )
        return [_letter(message) for message in stored]


def subject_of(origin: str) -> str:
    """Subject of the letters that came from the stream `origin`.

    Raises:
        InvalidRequest: not a valid name of a stream. A wildcard would match letters from others.
    """
    if not _STREAM_NAME.fullmatch(origin):
        raise InvalidRequest("stream must be the name of a stream, for example WEBHOOKS")
    return subjects.dead_letter(origin)


def _letter(message: StoredMessage) -> Letter:
    try:
        content = read_letter(message.headers, message.body)
    except NOT_JSON as error:
        content = _unreadable(message, error)
    return Letter(message.sequence, content)


def _unreadable(message: StoredMessage, error: Exception) -> DeadLetter:
    # An error raised here would make all letters after this message impossible to list or purge.
    return DeadLetter(
        id="",
        stream=message.subject.rpartition(".")[2],
        subject="",
        reason=UNREADABLE,
        detail=f"not a dead letter: {error}",
        attempts=0,
        failed_at=message.at,
        headers={},
        body=message.body,
    )
