"""Message headers: CloudEvents attributes in binary mode, and the correlation id.

Names follow the CloudEvents NATS protocol binding (`ce-` prefix), so that any CloudEvents reader
understands them; `Nats-Msg-Id` is JetStream's deduplication key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

MESSAGE_ID = "Nats-Msg-Id"
ORIGINAL_ID = "Hogsend-Original-Id"
"""A replayed dead letter's first message id; empty when it had none. See `message_id`."""
CORRELATION_ID = "Hogsend-Correlation-Id"
TRACEPARENT = "traceparent"
"""The span a message belongs to (W3C Trace Context), where traces are made."""
RECEIVED_AT = "Hogsend-Received-At"
DESTINATION = "Hogsend-Destination"
"""Id of the only destination a message is for."""

TYPE_PREFIX = "dev.hogsend"


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
        "ce-source": f"/hogsend/{source}",
        "ce-type": f"{TYPE_PREFIX}.{type}",
        "ce-time": format_time(time),
        "content-type": "application/json",
    }
    if correlation_id:
        envelope[CORRELATION_ID] = correlation_id
    if traceparent:
        envelope[TRACEPARENT] = traceparent
    return envelope


def message_id(headers: Mapping[str, str]) -> str | None:
    """What a message is known by for ever: the id it was first published with, if it had one.

    A replayed dead letter needs another `Nats-Msg-Id`, or JetStream would drop it as a repeat;
    whoever deduplicates for longer than JetStream does goes by this.
    """
    return headers.get(ORIGINAL_ID, headers.get(MESSAGE_ID)) or None


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds; sorts as text in time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
