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
"""First message id of a replayed dead letter or event; empty when it had none. See `message_id`."""
CORRELATION_ID = "Hogsend-Correlation-Id"
TRACEPARENT = "traceparent"
"""The span a message belongs to (W3C Trace Context), where traces are made."""
RECEIVED_AT = "Hogsend-Received-At"
"""When the gateway received a webhook; of a dead letter, when its stream first took it. See
`format_time`."""
REPLAY = "Hogsend-Replay"
"""Id of the replay that delivers an event to a durable again; no other event has it."""
DESTINATION = "Hogsend-Destination"
"""Id of the only destination a message is for."""
DEAD_LETTER = "Hogsend-Dead-Letter"
"""A dead letter without its message, which is the body: one that does not fit as base64."""
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
"""How a body is compressed; not there where it is not."""

CE_SOURCE = "ce-source"
"""Who published a message; see `ce_source`."""
CE_TIME = "ce-time"
"""When what a message says happened, or when it was made; see `format_time`."""

TYPE_PREFIX = "dev.hogsend"

MAX_ID = 500
"""Characters of a message id. Of longer ones PostgreSQL makes no key."""
MAX_PASSED_ON = 256
"""Characters of a header that goes on to other messages and into logs and tables."""

_SAFE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def message_headers(
    *,
    id: str,
    source: str,
    type: str,
    time: datetime,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> dict[str, str]:
    """Headers for a JetStream message that JetStream deduplicates by `id`."""
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
    """Value of `ce-source` for a source."""
    return f"/hogsend/{source}"


def event_message_id(*, source: str, id: str, event: str, user_id: str) -> str:
    """The message id of an event: the same for every repetition, and for nothing else (C4).

    An id alone is not enough. A mail provider has one for open and click, and a caller may choose
    one that PostHog has, too.

    Args:
        source: who gave the event its id.
        id: ends the message id, for people who read it, if a header can carry it.
        event: its name.
        user_id: as reported; may be empty.
    """
    key = msgspec.json.encode([source, id, event, user_id])
    digest = hashlib.sha256(key).hexdigest()[:32]
    return f"{digest}:{id}" if is_safe_in_header(id) else digest


def is_safe_in_header(id: str) -> bool:
    """Whether a message id may be, or end in, `id`."""
    return _SAFE.fullmatch(id) is not None


def message_id(headers: Mapping[str, str]) -> str | None:
    """What a message is known by for ever: the id it was first published with, if it had one.

    A replayed dead letter needs another `Nats-Msg-Id`, or JetStream would drop it as a repeat;
    a subscriber that deduplicates for longer than JetStream does goes by this. One that is too long
    is known by its digest.
    """
    id = headers.get(ORIGINAL_ID, headers.get(MESSAGE_ID)) or None
    if id is None or len(id) <= MAX_ID:
        return id
    return f"sha256:{hashlib.sha256(id.encode()).hexdigest()}"


def passed_on(headers: Mapping[str, str], name: str) -> str | None:
    """Value of `CORRELATION_ID` or `TRACEPARENT` for the messages that this one causes.

    None where it is missing, too long or not printable: its publisher chooses it, JetStream takes
    64 KiB of headers with a message, and PostgreSQL no NUL.
    """
    value = headers.get(name)
    return value if value and len(value) <= MAX_PASSED_ON and value.isprintable() else None


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds; sorts as text in time order."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # In a tenth of the time that `isoformat` takes, but without a fraction that is 0.
    text: str = msgspec.to_builtins(moment)
    return text if moment.microsecond else f"{text[:-1]}.000000Z"
