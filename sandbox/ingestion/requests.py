"""The forms of a decoded body: a list, a batch, one event, or a person.

Source: rust/capture/src/v0_request.rs and rust/common/types/src/event.rs. As with serde's untagged
enum, the first form that matches is used, and fields must have their type: if the key is a number,
the request is unreadable, not a request with a wrong key.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec

from sandbox.ingestion.errors import bad_event, bad_token, check_token, nameless, unparseable

NO_FORM = "data did not match any variant of untagged enum RawRequest"

_UUID = re.compile(
    r"(?:urn:uuid:)?(?P<plain>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|\{(?P<braced>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}|(?P<simple>[0-9a-f]{32})",
    re.IGNORECASE,
)
"""The formats that Rust's crate `uuid` parses."""


class RawPerson(msgspec.Struct, kw_only=True):
    """The fields of an event without its name, which is the form of `/engage`."""

    token: str | None = None
    dollar_token: str | None = msgspec.field(default=None, name="$token")
    api_key: str | None = None
    distinct_id: Any = None
    dollar_distinct_id: Any = msgspec.field(default=None, name="$distinct_id")
    uuid: str | None = None
    properties: dict[str, Any] = {}
    timestamp: str | None = None
    offset: int | None = None
    """Milliseconds between the event and the request."""
    set: dict[str, Any] | None = msgspec.field(default=None, name="$set")
    set_once: dict[str, Any] | None = msgspec.field(default=None, name="$set_once")

    def __post_init__(self) -> None:
        if len(self._keys()) > 1:
            raise ValueError("duplicate field `token`")
        if self.distinct_id is not None and self.dollar_distinct_id is not None:
            raise ValueError("duplicate field `distinct_id`")
        if self.uuid:
            self.uuid = read_uuid(self.uuid)

    @property
    def key(self) -> str | None:
        """The project key, from a field of the event or from its properties."""
        token = self.properties.get("token")
        return next(iter(self._keys()), token if isinstance(token, str) else None)

    def _keys(self) -> list[str]:
        keys = (self.token, self.dollar_token, self.api_key)
        return [key for key in keys if key is not None]


class RawEvent(RawPerson, kw_only=True):
    """An event as it was sent."""

    event: str


class RawBatch(msgspec.Struct, kw_only=True):
    """Events that share a key."""

    batch: list[RawEvent]
    token: str | None = None
    api_key: str | None = None
    historical_migration: bool | None = None
    sent_at: str | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.api_key is None):
            raise ValueError("one of `token` and `api_key` is required")

    @property
    def key(self) -> str | None:
        """The project key."""
        return self.token if self.token is not None else self.api_key


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one request."""

    token: str
    events: list[RawEvent]
    sent_at: str | None = None
    """The client's time when it sent the request."""


def read_request(document: Any, *, is_engage: bool = False) -> RawRequest:
    """Recognize the form of a body, and read its events.

    Args:
        document: the decoded body.
        is_engage: whether the path is `/engage`, where an event has no name.

    Raises:
        CaptureError: the body has no form that capture accepts, or its key is invalid.
    """
    sent_at: str | None = None
    if (event_list := _as(document, list[RawEvent])) is not None:
        events = event_list
        key = _shared_key(events)
    elif (batch := _as(document, RawBatch)) is not None:
        events, key, sent_at = batch.batch, batch.key, batch.sent_at
    elif (event := _as(document, RawEvent)) is not None:
        events, key = [event], event.key
    elif (person := _as(document, RawPerson)) is not None:
        if not is_engage:
            raise nameless()
        fields = msgspec.structs.asdict(person)
        events, key = [RawEvent(event="$identify", **fields)], person.key
    else:
        raise unparseable(NO_FORM)
    if not events:
        raise bad_event("request holds no event")
    return RawRequest(token=check_token(key), events=events, sent_at=sent_at)


def read_uuid(text: str) -> str:
    """Normalize a uuid.

    Raises:
        ValueError: the text is no uuid.
    """
    match = _UUID.fullmatch(text)
    if match is None:
        raise ValueError("uuid is not a UUID")
    return str(uuid.UUID(match["plain"] or match["braced"] or match["simple"]))


def _shared_key(events: list[RawEvent]) -> str | None:
    keys = {event.key for event in events} - {None}
    if len(keys) > 1:
        raise bad_token("batch submitted with inconsistent api_key values")
    return next(iter(keys), None)


def _as(document: Any, form: Any) -> Any:
    """Convert a document to a form; None if it does not match."""
    try:
        return msgspec.convert(document, form)
    except msgspec.ValidationError:
        return None
