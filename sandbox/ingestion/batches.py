"""Batches of capture v1: validates them, and reports the outcome of each event.

Source: rust/capture/src/v1/. SDKs use it with `capture_mode="v1"`. Unlike the older protocol, the
key and the client's time are in headers, and an invalid event is dropped alone.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

import msgspec

from hogsend.contract.json_text import NOT_JSON
from sandbox.ingestion.batch_headers import Sender
from sandbox.ingestion.decoding import MAX_BYTES
from sandbox.ingestion.errors import BatchError
from sandbox.ingestion.events import MAX_EVENT_BYTES, Accepted, CapturedEvent
from sandbox.ingestion.requests import read_uuid
from sandbox.ingestion.timestamps import event_time, rfc3339

MAX_NAME_BYTES = 200
"""Maximum bytes of an event's name and of a distinct id; a longer one is dropped, not cut."""
ILLEGAL_IDS = frozenset(
    {"0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user"}
    | {"backend", "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none"}
    | {"not_authenticated", "null", "system", "true", "undefined", "user"}
)
"""Distinct ids whose events are accepted without a person (analytics/constants.rs)."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_OPTIONS = {
    "cookieless_mode": "$cookieless_mode",
    "disable_skew_correction": "$ignore_sent_at",
    "process_person_profile": "$process_person_profile",
    "product_tour_id": "$product_tour_id",
}
"""The event property that each option becomes."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened to one event."""

    result: Literal["ok", "drop"]
    details: str | None = None


class ReadBatch(msgspec.Struct, frozen=True):
    """The accepted events of a batch, and the outcome of every event by uuid."""

    accepted: Accepted
    results: dict[str, Outcome]


class _Event(msgspec.Struct, kw_only=True):
    event: str
    uuid: str
    distinct_id: str
    timestamp: str
    options: dict[str, Any]
    session_id: str | None = None
    window_id: str | None = None
    properties: Any = {}


class _Batch(msgspec.Struct, kw_only=True):
    created_at: str
    batch: list[_Event]
    historical_migration: bool = False


class _Dropped(Exception):
    """One event is dropped, for the reason in its text."""


def read_batch(sender: Sender, body: bytes, now: float) -> ReadBatch:
    """Decode and validate a batch that arrived at `now`.

    Raises:
        BatchError: the whole batch is refused.
    """
    batch = _decode(_decompressed(sender.encoding, body))
    if not batch.batch:
        raise BatchError(400, "empty_batch", "request batch is empty")
    if rfc3339(batch.created_at) is None:
        description = f"invalid batch: created_at is not valid RFC 3339: {batch.created_at}"
        raise BatchError(400, "invalid_batch", description)
    events: list[CapturedEvent] = []
    results: dict[str, Outcome] = {}
    for raw, id in zip(batch.batch, _uuids(batch.batch), strict=True):
        try:
            event, details = _event(raw, id, sender, now)
        except _Dropped as reason:
            results[id] = Outcome("drop", str(reason))
        else:
            events.append(event)
            results[id] = Outcome("ok", details)
    return ReadBatch(Accepted(sender.token, events), results)


def _decompressed(encoding: str, body: bytes) -> bytes:
    if not body:
        raise BatchError(400, "empty_body", "request body is empty")
    match encoding:
        case "":
            return body
        case "gzip":
            window = zlib.MAX_WBITS | 16
        case "deflate":
            # A zlib header begins with 0x78; without it the data is raw deflate.
            window = zlib.MAX_WBITS if body.startswith(b"\x78") else -zlib.MAX_WBITS
        case _:
            description = f"unsupported content encoding: {encoding}"
            raise BatchError(415, "unsupported_encoding", description)
    stream = zlib.decompressobj(window)
    try:
        text = stream.decompress(body, MAX_BYTES + 1)
    except zlib.error:
        text = b""
    if len(text) > MAX_BYTES:
        description = f"payload too large: more than {MAX_BYTES} bytes after decompressing"
        raise BatchError(413, "payload_too_large", description)
    if not stream.eof:
        raise BatchError(400, "request_decoding_error", "Failed to decode request body.")
    return text


def _decode(text: bytes) -> _Batch:
    try:
        return msgspec.json.decode(text, type=_Batch)
    except NOT_JSON:
        raise BatchError(400, "request_parsing_error", "Failed to parse request body.") from None


def _uuids(events: list[_Event]) -> list[str]:
    ids: dict[str, None] = {}
    for event in events:
        if not event.uuid:
            raise BatchError(400, "missing_event_uuid", "event submitted without a uuid")
        try:
            id = read_uuid(event.uuid.strip())
        except ValueError:
            description = f"invalid event uuid: {event.uuid}"
            raise BatchError(400, "invalid_event_uuid", description) from None
        if id in ids:
            description = f"duplicate event uuid: {event.uuid}"
            raise BatchError(400, "duplicate_event_uuid", description)
        ids[id] = None
    return list(ids)


def _event(raw: _Event, id: str, sender: Sender, now: float) -> tuple[CapturedEvent, str | None]:
    distinct_id = raw.distinct_id.strip()
    happened = _check(raw, distinct_id)
    properties: dict[str, Any] = {**raw.properties, **sender.library, **_options(raw)}
    session = {"$session_id": raw.session_id, "$window_id": raw.window_id}
    properties |= {name: value for name, value in session.items() if value is not None}
    details = None
    if distinct_id.lower() in ILLEGAL_IDS:
        properties["$process_person_profile"] = False
        details = "person_processing_disabled"
    ignores_sent_at = properties.get("$ignore_sent_at") is True
    event = CapturedEvent(
        uuid=id,
        event=raw.event,
        distinct_id=distinct_id,
        properties=properties,
        timestamp=event_time(happened, now, None if ignores_sent_at else sender.sent_at),
    )
    if len(msgspec.json.encode(event)) > MAX_EVENT_BYTES:
        raise _Dropped("event_too_big")
    return event, details


def _check(raw: _Event, distinct_id: str) -> float:
    """Validate an event, and return when it happened by the client's clock."""
    problems = {
        "dropped_performance_event": raw.event == "$performance_event",
        "missing_event_name": not raw.event,
        "event_name_too_long": len(raw.event.encode()) > MAX_NAME_BYTES,
        "missing_distinct_id": not distinct_id,
        "distinct_id_too_large": len(distinct_id.encode()) > MAX_NAME_BYTES,
    }
    if problem := next((name for name, applies in problems.items() if applies), None):
        raise _Dropped(problem)
    happened = rfc3339(raw.timestamp)
    if happened is None:
        raise _Dropped("invalid_event_timestamp")
    if not isinstance(raw.properties, dict):
        raise _Dropped("malformed_event_properties")
    return happened


def _options(raw: _Event) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, property in _OPTIONS.items():
        value = raw.options.get(name)
        if value is None:
            continue
        if name == "product_tour_id":
            if not isinstance(value, str):
                raise _Dropped("invalid_options")
            options[property] = value
        else:
            options[property] = _boolean(value)
    return options


def _boolean(value: Any) -> bool:
    if isinstance(value, str):
        value = _BOOLEANS.get(value.strip().lower())
    if not isinstance(value, bool | int | float):
        raise _Dropped("invalid_options")
    return bool(value)
