"""Events of a decoded body: one, a list, or a batch (rust/capture/src/v0_request.rs)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from sandbox.clock import iso
from sandbox.ingestion.errors import bad_event, bad_token, check_token, too_big, unparseable

MAX_EVENT_BYTES = 1_000_000
"""What a Kafka message may have (`kafka_producer_message_max_bytes` in rust/capture)."""


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


def read_events(document: Any, now: float) -> Accepted:
    """Validate the events of a body; `now` is its time of arrival in seconds since the epoch.

    Raises:
        CaptureError: the key or an event is invalid. Nothing is captured.
    """
    envelope: dict[str, Any] = document if isinstance(document, dict) else {}
    items = envelope.get("batch", [envelope] if envelope else document)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise unparseable("expected an event, a list of events or a batch")
    if not items:
        raise bad_event("request holds no event")
    tokens = {_token(item) or _token(envelope) for item in items}
    if len(tokens) > 1:
        raise bad_token("batch submitted with inconsistent api_key values")
    sent_at = _moment(envelope.get("sent_at"))
    return Accepted(check_token(tokens.pop()), [_event(item, now, sent_at) for item in items])


def _token(item: dict[str, Any]) -> str | None:
    properties = item.get("properties")
    inside = properties.get("token") if isinstance(properties, dict) else None
    for found in (item.get("api_key"), item.get("token"), inside):
        if isinstance(found, str):
            return found
    return None


def _event(item: dict[str, Any], now: float, sent_at: float | None) -> CapturedEvent:
    properties = item.get("properties") or {}
    if not isinstance(properties, dict):
        raise unparseable("properties is not an object")
    if len(msgspec.json.encode(item)) > MAX_EVENT_BYTES:
        raise too_big(f"an event of more than {MAX_EVENT_BYTES} bytes")
    name = item.get("event")
    if not isinstance(name, str) or not name:
        raise bad_event("event submitted with an empty event name")
    # SDKs may send these beside the properties instead of inside them.
    lifted = {key: item[key] for key in ("$set", "$set_once", "$unset") if item.get(key)}
    return CapturedEvent(
        uuid=_uuid(item.get("uuid")),
        event=name,
        distinct_id=_distinct_id(item, properties),
        properties={
            key: value for key, value in {**properties, **lifted}.items() if key != "token"
        },
        timestamp=iso(_time(item, now, sent_at)),
    )


def _distinct_id(item: dict[str, Any], properties: dict[str, Any]) -> str:
    found = item.get("distinct_id", item.get("$distinct_id", properties.get("distinct_id")))
    if found is None:
        raise bad_event("event submitted without a distinct_id")
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    if not text.strip("\0 "):
        raise bad_event("event submitted with an empty distinct_id")
    return text[:200]


def _uuid(value: Any) -> str:
    if value is None or value == "":
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise unparseable("uuid is not a UUID") from None


def _time(item: dict[str, Any], now: float, sent_at: float | None) -> float:
    """Return an event's time by our clock (nodejs/src/worker/ingestion/timestamps.ts).

    The client's clock may be wrong: only its difference to `sent_at` counts.
    """
    happened = _moment(item.get("timestamp"))
    if happened is not None:
        return happened if sent_at is None else now - (sent_at - happened)
    offset = item.get("offset")
    return now - offset / 1000 if isinstance(offset, int | float) else now


def _moment(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
