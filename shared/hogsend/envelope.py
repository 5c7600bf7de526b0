"""Message headers: CloudEvents attributes in binary mode, and the correlation id.

Names follow the CloudEvents NATS protocol binding (`ce-` prefix), so that any CloudEvents reader
understands them; `Nats-Msg-Id` is JetStream's deduplication key.
"""

from __future__ import annotations

from datetime import UTC, datetime

MESSAGE_ID = "Nats-Msg-Id"
CORRELATION_ID = "Hogsend-Correlation-Id"
RECEIVED_AT = "Hogsend-Received-At"
DESTINATION = "Hogsend-Destination"
"""Id of the only destination a message is for."""

TYPE_PREFIX = "dev.hogsend"


def headers(
    *, id: str, source: str, type: str, time: datetime, correlation_id: str | None = None
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
    return envelope


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds; sorts as text in time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
