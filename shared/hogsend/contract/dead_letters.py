"""Dead letters: messages that could not be processed, stored whole to be inspected and replayed."""

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
    """A message that was removed from its stream because no retry would have helped.

    A message that is too large to be written here as base64 is the body of the dead letter instead,
    compressed if the header `content-encoding` is `gzip`. The other fields are then JSON in the
    header `Hogsend-Dead-Letter`.
    """

    id: str
    stream: str
    """Stream that the message was on."""
    subject: str
    """Subject that the message was published on."""
    reason: str
    """Stable code, for example `malformed` or `rejected_by_database`."""
    detail: str
    """The error, in words."""
    attempts: int
    """Number of deliveries of the message before it was removed."""
    failed_at: datetime
    headers: dict[str, str]
    """Headers of the original message."""
    body: bytes
    """The original message, base64 on the wire."""


_DETAIL_CHARACTERS = 1000
"""Maximum characters of `detail` in the header of a large letter."""
_HEADERS_CHARACTERS = 16 * 1024
"""Maximum characters of the message's headers, as JSON, in the header of a large letter.

JetStream limits all headers of a message to 64 KiB.
"""
_OWN_HEADERS = frozenset(
    {RECEIVED_AT, ORIGINAL_ID, MESSAGE_ID, DESTINATION, CORRELATION_ID, TRACEPARENT}
)
"""Headers that Hogsend reads, which are omitted last."""


class EncodedLetter(NamedTuple):
    """A dead letter in its published form: the body, and the headers that describe its encoding."""

    body: bytes
    headers: Mapping[str, str] = {}


def write_letter(letter: DeadLetter) -> EncodedLetter:
    """Encode a letter as JSON. Its message is in base64, which makes it a third longer."""
    return EncodedLetter(msgspec.json.encode(letter))


def write_large_letter(letter: DeadLetter, *, compressed: bool) -> EncodedLetter:
    """Encode a letter whose message does not fit as base64: the message itself is the body.

    Args:
        letter: all fields but the message become JSON in a header. A long `detail` is cut. Headers
            of the message that do not fit are omitted, those that Hogsend reads last.
        compressed: whether to compress the body with gzip, for a message that does not fit
            uncompressed.
    """
    fields = msgspec.to_builtins(
        msgspec.structs.replace(
            letter,
            body=b"",
            detail=letter.detail[:_DETAIL_CHARACTERS],
            headers=_fitting_headers(letter.headers),
        )
    )
    headers = {DEAD_LETTER: json.dumps(fields), CONTENT_TYPE: "application/octet-stream"}
    if not compressed:
        return EncodedLetter(letter.body, headers)
    return EncodedLetter(gzip.compress(letter.body), {**headers, CONTENT_ENCODING: "gzip"})


def _fitting_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a message that fit into `_HEADERS_CHARACTERS`, always with its message id."""
    kept: dict[str, str] = {}
    remaining = _HEADERS_CHARACTERS
    for name, value in sorted(headers.items(), key=lambda header: header[0] not in _OWN_HEADERS):
        size = len(json.dumps({name: value}))
        if size <= remaining:
            kept[name] = value
            remaining -= size
    id = message_id(headers)
    if id is not None and message_id(kept) != id:
        kept[ORIGINAL_ID] = id
    return kept


def read_letter(headers: Mapping[str, str], body: bytes) -> DeadLetter:
    """Decode a published letter, in either encoding.

    Raises:
        NotJson: one of `json_text.NOT_JSON`: the message is no dead letter.
    """
    fields = headers.get(DEAD_LETTER)
    if fields is None:
        return msgspec.json.decode(body, type=DeadLetter)
    letter = msgspec.json.decode(fields, type=DeadLetter)
    if headers.get(CONTENT_ENCODING) == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise msgspec.DecodeError(f"its message cannot be decompressed: {error}") from error
    return msgspec.structs.replace(letter, body=body)


class DeadLetterFilter(Message, frozen=True, kw_only=True):
    """Filters of dead letters; None means any."""

    sequence: int | None = None
    """Sequence number of one letter in the stream DEADLETTER."""
    stream: str | None = None
    reason: str | None = None


class ListDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """List dead letters, newest first."""

    limit: Limit = 50
    before: int | None = None
    """Cursor: only letters with a smaller sequence number."""


class ListedDeadLetter(Message, frozen=True, kw_only=True):
    """A dead letter without its message."""

    sequence: int
    """Sequence number of the letter in the stream DEADLETTER, by which it is replayed or
    deleted."""
    stream: str
    """Stream that the message was on."""
    subject: str
    """NATS subject that the message was published on."""
    reason: str
    """Stable code, for example `malformed` or `rejected_by_database`."""
    detail: str
    """The error, in words."""
    attempts: int
    """Number of deliveries of the message before it became a dead letter."""
    failed_at: datetime
    """When the message became a dead letter."""
    size: int
    """Bytes of the original message."""
    body: str | None = None
    """The original message as text. Only set if exactly one letter was requested."""
    cut: bool = False
    """Whether `body` is only the beginning, because the whole does not fit into one reply."""


class DeadLetterPage(Message, frozen=True, kw_only=True):
    """A page of dead letters."""

    dead_letters: list[ListedDeadLetter]
    total: int
    """Number of matching dead letters on all pages."""
    next_before: int | None = None
    """`before` of the next page; None on the last page."""


class ReplayDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """Publish dead letters again on the streams that they come from, oldest first."""


class PurgeDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """Delete dead letters."""


class KeptDeadLetters(Message, frozen=True, kw_only=True):
    """Letters that could not be replayed, or not be deleted after it, for one reason."""

    reason: str
    """`no_body`, `not_replayable`, `too_large`, `refused`, `unavailable` or `not_deleted`."""
    detail: str
    """The reason explained, for an operator."""
    count: int
    """Number of these letters."""
    first_sequence: int
    """Sequence number of the oldest of these letters."""


class DeadLettersDone(Message, frozen=True):
    """Result of a replay or a purge of dead letters."""

    count: int
    """Number of letters that were replayed or purged."""
    kept: list[KeptDeadLetters] = []
    """Letters that are still in the stream, by reason."""
    more: bool = False
    """Whether time ran out before all letters were processed. Repeat the request to continue."""


MESSAGE_DEAD_LETTERED = Channel(
    subject=f"{subjects.DEADLETTER}.*",
    parameter="stream",
    stream=StreamName.DEADLETTER,
    message=DeadLetter,
    publishers=(User.INGEST, User.ANALYTICS),
    subscribers=(User.OPERATOR,),
    summary="A message that could not be processed; `*` is the stream that it was on.",
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
    summary="Publish dead letters again on their streams.",
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
    summary="Delete dead letters.",
    deadline=60.0,
    changes=True,
    resource="sequence",
)
