"""Message headers: CloudEvents attributes in binary mode, and the correlation id.

Names follow the CloudEvents NATS protocol binding (`ce-` prefix), so that any CloudEvents reader
understands them; `Nats-Msg-Id` is JetStream's deduplication key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

MESSAGE_ID = "Nats-Msg-Id"
ORIGINAL_ID = "Hogsend-Original-Id"
"""Message id with which a replayed dead letter or event was first published.

Empty if the original had no message id. See `message_id`.
"""
CORRELATION_ID = "Hogsend-Correlation-Id"
REQUEST_ID = "Hogsend-Request-Id"
"""Random id of a request that may take longer than three seconds.

A caller that waits for the reply sends the id in a ping, too: see `hogsend.contract.discovery`.
"""
TRACEPARENT = "traceparent"
"""The span that a message belongs to (W3C Trace Context). Only present with tracing enabled."""
RECEIVED_AT = "Hogsend-Received-At"
"""When the gateway received a webhook; of a dead letter, when its stream first stored the message.

The format is that of `format_time`.
"""
REPLAY = "Hogsend-Replay"
"""Id of the replay that delivers an event to a durable again. Only replayed events have it."""
DESTINATION = "Hogsend-Destination"
"""Id of the single destination that a message is for. Without it a message is for all."""
DEAD_LETTER = "Hogsend-Dead-Letter"
"""The fields of a large dead letter as JSON, without its message, which is then the body.

Only present where the message is too large to be written into the letter as base64.
"""
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
"""Compression of the body; absent if the body is not compressed."""

CE_SOURCE = "ce-source"
"""The publisher of a message; see `ce_source`."""
CE_TIME = "ce-time"
"""When the reported fact happened, or when the message was made; see `format_time`."""

TYPE_PREFIX = "dev.hogsend"

MAX_ID = 500
"""Maximum characters of a message id. PostgreSQL cannot index much longer ones as a key."""
MAX_PROPAGATED = 256
"""Maximum characters of a header value that is copied to other messages, logs and tables."""

_SAFE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_encode = msgspec.json.Encoder().encode


def message_headers(
    *,
    id: str,
    source: str,
    type: str,
    time: datetime,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> dict[str, str]:
    """Headers of a published message. JetStream deduplicates it by `id`."""
    envelope = {
        MESSAGE_ID: id,
        "ce-specversion": "1.0",
        "ce-id": id,
        CE_SOURCE: ce_source(source),
        "ce-type": f"{TYPE_PREFIX}.{type}",
        CE_TIME: format_time(time),
        CONTENT_TYPE: "application/json",
    }
    if correlation_id:
        envelope[CORRELATION_ID] = correlation_id
    if traceparent:
        envelope[TRACEPARENT] = traceparent
    return envelope


def ce_source(source: str) -> str:
    """Value of the header `ce-source` for a source, such as `ingest`."""
    return f"/hogsend/{source}"


def event_message_id(*, source: str, id: str, event: str, user_id: str) -> str:
    """The message id of an event: equal for repetitions of one event, different for others (C4).

    The event's own id is not enough: a mail provider may use one id for an open and a click, and a
    caller may choose an id that PostHog uses as well.

    Args:
        source: the source that gave the event its id.
        id: the event's id. If a header can carry it, it is the readable end of the message id.
        event: the event's name.
        user_id: the user id as reported; may be empty.
    """
    return message_id_of(event_digest(source, id, event, user_id), id)


def event_digest(source: str, id: str, event: str, user_id: str) -> bytes:
    """The SHA-256 of what identifies an event; see `event_message_id`."""
    return hashlib.sha256(_encode((source, id, event, user_id))).digest()


def message_id_of(digest: bytes, id: str) -> str:
    """The message id of an event with this `event_digest`; see `event_message_id`."""
    text = digest[:16].hex()
    return f"{text}:{id}" if is_safe_in_header(id) else text


def is_safe_in_header(id: str) -> bool:
    """Whether a header can carry `id` unchanged, as a message id or as the end of one."""
    return _SAFE.fullmatch(id) is not None


def message_id(headers: Mapping[str, str]) -> str | None:
    """The id with which a message was first published; None if it had none.

    A replayed dead letter has another `Nats-Msg-Id`, or JetStream would drop it as a repeat. A
    subscriber that deduplicates for longer than JetStream does must use this id. An id longer than
    `MAX_ID` is replaced by its SHA-256 digest.
    """
    id = headers.get(ORIGINAL_ID, headers.get(MESSAGE_ID)) or None
    if id is None or len(id) <= MAX_ID:
        return id
    return f"sha256:{hashlib.sha256(id.encode()).hexdigest()}"


def propagated(headers: Mapping[str, str], name: str) -> str | None:
    """Value of the header `name` to copy to the messages that this message causes.

    For `CORRELATION_ID` and `TRACEPARENT`. None if the value is missing, too long or not printable:
    the publisher chooses it, JetStream limits the headers of a message to 64 KiB, and PostgreSQL
    stores no NUL.
    """
    value = headers.get(name)
    return value if value and len(value) <= MAX_PROPAGATED and value.isprintable() else None


def format_time(moment: datetime) -> str:
    """Format a time as RFC 3339 in UTC with microseconds. Such texts sort in order of time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Ten times as fast as `isoformat`, but msgspec omits a fraction of 0.
    text: str = msgspec.to_builtins(moment)
    return text if moment.microsecond else f"{text[:-1]}.000000Z"
