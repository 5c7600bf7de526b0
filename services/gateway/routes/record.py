"""`POST /v1/events`: records events that clients and services report (contract 5.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import HeaderParameter, JSONBody
from msgspec import UNSET, UnsetType

from hogsend.contract.base import Properties
from hogsend.contract.engagement import MAX_ENGAGEMENT_ID
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.events import INGEST_RECORD, RecordEvent
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, INGEST_KEY, reporters_only
from services.gateway.error_responses import documented_errors
from services.gateway.timestamps import Timestamp, parse_happened

ENVELOPE_BYTES = 8192
"""Bytes reserved in a NATS message for everything except the event's body."""

NO_LISTS = "there are no mailing lists here; nothing was subscribed or unsubscribed"

T = TypeVar("T")

# `(?!\n)`: in Python `$` also matches before a final newline, unlike in clients in JavaScript.
KEY = r"^[\x21-\x7e]+$(?!\n)"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S")]
UserId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\S", description="External id.")
]
Email = Annotated[str, msgspec.Meta(max_length=320, pattern=r"^[^\s@]+@[^\s@]+$(?!\n)")]
IdempotencyKey = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_ENGAGEMENT_ID,
        pattern=KEY,
        description="The id of the event: the same for every attempt to report it. Events with "
        "another name or user id may have the same key.",
    ),
]


class ReportedEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An event of a contact, which is named by `userId` or `email`."""

    event: Name | UnsetType = UNSET
    """Name of the event; this or `name` is required."""
    name: Name | UnsetType = UNSET
    """The same as `event`, by the name that Hogsend's command and client use (correction C11)."""
    user_id: UserId | None = None
    """Id of the person in your product; PostHog's distinct id."""
    email: Email | None = None
    """Compared without regard to case."""
    properties: Properties | UnsetType = UNSET
    """Properties of the event, not of the contact."""
    event_properties: Properties | UnsetType = UNSET
    """The same as `properties`, under the name that Hogsend's command and client use."""
    contact_properties: Properties = {}
    """Properties of the contact, not of the event."""
    value: float | None = None
    """Added to the event's properties, as is `currency`."""
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{3}$(?!\n)")] | None = None
    """Code of three letters (ISO 4217), for example `EUR`."""
    idempotency_key: IdempotencyKey | None = None
    lists: dict[str, bool] = {}
    """Mailing lists to join or leave. There are none here; the response has `listsError`."""
    timestamp: Timestamp | None = None
    """When the event happened. By default, or if out of range, the time of receipt is used."""


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The event is stored and published."""

    stored: bool
    """False for a repeated idempotency key."""
    exits: list[str] = []
    """Journeys that the event ended. Always empty; Hogsend's clients expect the key."""
    lists_error: str | UnsetType = UNSET
    """Why `lists` was ignored although the event is stored."""
    contact_key: str
    """Key of the contact: the distinct id that identifies it in PostHog."""
    id: str
    """The idempotency key, if there is one. Without a user id, the email's digest is appended."""


@post(
    "/v1/events",
    status_code=202,
    guards=[reporters_only],
    operation_id="recordEvent",
    summary="Report an event",
    tags=["Events"],
    security=ADMIN_SECURITY + INGEST_KEY,
    responses=documented_errors(400, 401, 403, 413, 429, 503),
)
async def record_event(
    data: JSONBody[ReportedEvent],
    bus: NamedDependency[Connection],
    request: Request[Any, Any, Any],
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            min_length=1,
            max_length=MAX_ENGAGEMENT_ID,
            pattern=KEY,
            description="The same as `idempotencyKey` of the body. If both are given, they must be "
            "equal.",
        ),
    ] = None,
) -> RecordedEvent:
    """Store and publish an event. Both are done when the response 202 is sent."""
    if len(await request.body()) > bus.max_payload - ENVELOPE_BYTES:
        raise RequestEntityTooLarge
    recorded = await bus.request(INGEST_RECORD, _reported(data, idempotency_key))
    return RecordedEvent(
        stored=recorded.stored,
        lists_error=NO_LISTS if data.lists else UNSET,
        contact_key=recorded.contact_key,
        id=recorded.id,
    )


def _reported(data: ReportedEvent, header_key: str | None) -> RecordEvent:
    event = _merged(data.event, data.name, "event and name")
    if event is UNSET:
        raise InvalidRequest("event is required")
    if data.user_id is None and data.email is None:
        raise InvalidRequest("userId or email is required")
    key = data.idempotency_key or header_key
    if header_key not in {None, key}:
        raise InvalidRequest("idempotencyKey and the header Idempotency-Key differ")
    return RecordEvent(
        event=event,
        user_id=data.user_id or "",
        email=data.email,
        properties=_properties(data),
        contact_properties=data.contact_properties,
        idempotency_key=key,
        occurred_at=parse_happened(data.timestamp, "timestamp")
        if data.timestamp is not None
        else None,
        received_at=datetime.now(UTC),
    )


def _properties(data: ReportedEvent) -> Properties:
    money = {"value": data.value, "currency": data.currency}
    properties = _merged(data.properties, data.event_properties, "properties and eventProperties")
    return {name: value for name, value in money.items() if value is not None} | (properties or {})


def _merged(value: T | UnsetType, alias: T | UnsetType, names: str) -> T | UnsetType:
    """Return the value of a field that has two names.

    Raises:
        InvalidRequest: both names are given, with different values.
    """
    if value is not UNSET and alias is not UNSET and value != alias:
        raise InvalidRequest(f"{names} are the same field, and differ")
    return alias if value is UNSET else value
