"""Validates the events of a request, and sets their ids and times (rust/capture/src/events)."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from sandbox.ingestion.errors import bad_event, too_big
from sandbox.ingestion.requests import RawEvent, read_request
from sandbox.ingestion.timestamps import event_time, moment

MAX_EVENT_BYTES = 1_000_000
"""Maximum size of an event (`kafka_producer_message_max_bytes` in rust/capture)."""
MAX_AI_EVENT_BYTES = 8 * 1024 * 1024
"""Maximum size of an event on the path for AI events."""
MAX_DISTINCT_ID = 200
"""Maximum characters of a distinct id; a longer one is cut."""


class CapturedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted event."""

    uuid: str
    event: str
    distinct_id: str
    properties: dict[str, Any]
    timestamp: str


class Accepted(msgspec.Struct, frozen=True):
    """The events of one request, and its project key."""

    token: str
    events: list[CapturedEvent]


def read_events(
    document: Any,
    now: float,
    *,
    is_engage: bool = False,
    sent_at: float | None = None,
    max_event_bytes: int = MAX_EVENT_BYTES,
) -> Accepted:
    """Validate the events of a body.

    Args:
        document: the decoded body.
        now: when the request arrived, in seconds since 1970.
        is_engage: whether the path is `/engage`, where an event has no name.
        sent_at: the client's time when it sent the request. `sent_at` of a batch takes precedence.
        max_event_bytes: maximum size of one event.

    Raises:
        CaptureError: the key or an event is invalid. Nothing is captured.
    """
    request = read_request(document, is_engage=is_engage)
    batch_sent_at = moment(request.sent_at)
    if batch_sent_at is not None:
        sent_at = batch_sent_at
    events = [_event(event, now, sent_at) for event in request.events]
    if any(len(msgspec.json.encode(event)) > max_event_bytes for event in events):
        raise too_big(f"an event of more than {max_event_bytes} bytes")
    return Accepted(request.token, events)


def _event(raw: RawEvent, now: float, sent_at: float | None) -> CapturedEvent:
    if not raw.event:
        raise bad_event("event submitted with an empty event name")
    top_level = {"$set": raw.set, "$set_once": raw.set_once}
    properties = {**raw.properties, **{key: value for key, value in top_level.items() if value}}
    return CapturedEvent(
        uuid=raw.uuid or str(uuid.uuid4()),
        event=raw.event,
        distinct_id=_distinct_id(raw),
        properties={key: value for key, value in properties.items() if key != "token"},
        timestamp=_time(raw, now, sent_at),
    )


def _distinct_id(raw: RawEvent) -> str:
    candidates = (raw.distinct_id, raw.dollar_distinct_id, raw.properties.get("distinct_id"))
    value = next((candidate for candidate in candidates if candidate is not None), None)
    if value is None:
        raise bad_event("event submitted without a distinct_id")
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
    text = text.replace("\0", "\ufffd")
    if not text.strip():
        raise bad_event("event submitted without a distinct_id")
    return text[:MAX_DISTINCT_ID]


def _time(raw: RawEvent, now: float, sent_at: float | None) -> str:
    happened = moment(raw.timestamp)
    if happened is not None:
        ignores_sent_at = bool(raw.properties.get("$ignore_sent_at"))
        return event_time(happened, now, None if ignores_sent_at else sent_at)
    return event_time(now - (raw.offset or 0) / 1000, now, None)
