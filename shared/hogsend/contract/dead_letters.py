"""Messages that could not be processed, kept whole so that they can be inspected and replayed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Limit, Message
from hogsend.contract.headers import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CORRELATION_ID,
    DEAD_LETTER,
    DESTINATION,
    MESSAGE_ID,
    ORIGINAL_ID,
    RECEIVED_AT,
    TRACEPARENT,
    message_id,
)
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User


class DeadLetter(Message, frozen=True):
    """One message that was taken off its stream because no retry would have helped.

    One that does not fit as base64 is the body of its letter, compressed where `content-encoding`
    says `gzip`; the rest of the letter is JSON in the header `Hogsend-Dead-Letter`.
    """

    id: str
    stream: str
    subject: str
    reason: str
    """Stable code, for example `malformed` or `rejected_by_database`."""
    detail: str
    attempts: int
    failed_at: datetime
    headers: dict[str, str]
    body: bytes
    """The original message, base64 on the wire."""


_DETAIL_CHARACTERS = 1000
"""Most of a letter's `detail` in a header."""
_HEADERS_CHARACTERS = 16 * 1024
"""Most of the message's headers in a header, as JSON: JetStream takes 64 KiB in all."""
_OURS = frozenset({RECEIVED_AT, ORIGINAL_ID, MESSAGE_ID, DESTINATION, CORRELATION_ID, TRACEPARENT})


class WrittenLetter(NamedTuple):
    """A dead letter as it is published: its body, and headers that tell how it is written."""

    body: bytes
    headers: Mapping[str, str] = {}


def write_letter(letter: DeadLetter) -> WrittenLetter:
    """Write a letter as JSON, with its message in base64, which is a third longer than it."""
    return WrittenLetter(msgspec.json.encode(letter))


def write_large_letter(letter: DeadLetter, *, compressed: bool) -> WrittenLetter:
    """Write a letter whose message does not fit as base64: the message itself is the body.

    Args:
        letter: all but its message is JSON in a header. A long `detail` is cut, and headers that
            leave no room are left out, ours last.
        compressed: whether the body is gzip, for a message that does not fit beside that header.
    """
    told = msgspec.to_builtins(
        msgspec.structs.replace(
            letter,
            body=b"",
            detail=letter.detail[:_DETAIL_CHARACTERS],
            headers=_that_fit(letter.headers),
        )
    )
    headers = {DEAD_LETTER: json.dumps(told), CONTENT_TYPE: "application/octet-stream"}
    if not compressed:
        return WrittenLetter(letter.body, headers)
    return WrittenLetter(gzip.compress(letter.body), {**headers, CONTENT_ENCODING: "gzip"})


def _that_fit(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of a message that fit into one of its letter's; what it is known by is among them."""
    kept: dict[str, str] = {}
    room = _HEADERS_CHARACTERS
    for name, value in sorted(headers.items(), key=lambda header: header[0] not in _OURS):
        size = len(json.dumps({name: value}))
        if size <= room:
            kept[name] = value
            room -= size
    known_as = message_id(headers)
    if known_as is not None and message_id(kept) != known_as:
        kept[ORIGINAL_ID] = known_as
    return kept


def read_letter(headers: Mapping[str, str], body: bytes) -> DeadLetter:
    """Read a letter, however it is written.

    Raises:
        NotJson: one of `json_text.NOT_JSON`: it is no dead letter.
    """
    told = headers.get(DEAD_LETTER)
    if told is None:
        return msgspec.json.decode(body, type=DeadLetter)
    letter = msgspec.json.decode(told, type=DeadLetter)
    if headers.get(CONTENT_ENCODING) == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise msgspec.DecodeError(f"its message cannot be decompressed: {error}") from error
    return msgspec.structs.replace(letter, body=body)


class DeadLetterFilter(Message, frozen=True, kw_only=True):
    """Which dead letters are meant; None means any."""

    sequence: int | None = None
    """Position in the dead letter stream: exactly one letter."""
    stream: str | None = None
    reason: str | None = None


class ListDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """A page of dead letters, newest first."""

    limit: Limit = 50
    before: int | None = None
    """Only those with a smaller sequence; the last one of the page before."""


class ListedDeadLetter(Message, frozen=True, kw_only=True):
    """A dead letter without its message."""

    sequence: int
    stream: str
    subject: str
    reason: str
    detail: str
    attempts: int
    failed_at: datetime
    size: int
    """Bytes of the original message."""
    body: str | None = None
    """The original message as text, only when exactly one letter was asked for."""
    cut: bool = False
    """Whether `body` is only the beginning: the whole would not fit into one answer."""


class DeadLetterPage(Message, frozen=True, kw_only=True):
    """A page of dead letters."""

    dead_letters: list[ListedDeadLetter]
    total: int
    """Dead letters that match, on all pages."""
    next_before: int | None = None
    """`before` of the next page; None on the last."""


class ReplayDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """Put dead letters back on the streams they came from, oldest first."""


class PurgeDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """Forget dead letters."""


class KeptDeadLetters(Message, frozen=True, kw_only=True):
    """Letters that were to be replayed and still lie there, for one reason."""

    reason: str
    """`no_body`, `not_replayable`, `too_large`, `refused`, `unavailable` or `not_deleted`."""
    detail: str
    """What that means, for an operator."""
    count: int
    first_sequence: int
    """The oldest of them."""


class DeadLettersDone(Message, frozen=True):
    """How many letters were replayed or purged, and which were kept after all."""

    count: int
    kept: list[KeptDeadLetters] = []
    more: bool = False
    """Whether time ran out before all were looked at; asking again goes on."""


MESSAGE_DEAD_LETTERED = Channel(
    subject=f"{subjects.DEADLETTER}.*",
    parameter="stream",
    stream=StreamName.DEADLETTER,
    message=DeadLetter,
    publishers=(User.INGEST, User.ANALYTICS),
    subscribers=(User.OPERATOR,),
    summary="A message that could not be processed; the last token is its stream.",
)
INGEST_DEAD_LETTERS = Endpoint(
    service=User.INGEST,
    verb="dead-letters",
    request=ListDeadLetters,
    reply=DeadLetterPage,
    callers=(User.GATEWAY,),
    summary="A page of dead letters.",
    deadline=10.0,
)
INGEST_REPLAY = Endpoint(
    service=User.INGEST,
    verb="replay",
    request=ReplayDeadLetters,
    reply=DeadLettersDone,
    callers=(User.GATEWAY,),
    summary="Put dead letters back on their streams.",
    deadline=60.0,
    changes=True,
    resource="sequence",
)
INGEST_PURGE = Endpoint(
    service=User.INGEST,
    verb="purge",
    request=PurgeDeadLetters,
    reply=DeadLettersDone,
    callers=(User.GATEWAY,),
    summary="Forget dead letters.",
    deadline=60.0,
    changes=True,
    resource="sequence",
)
