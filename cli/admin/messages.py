"""Requests and responses of the admin routes that the CLI needs and the contract lacks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from hogsend.contract.destinations import (
    DeliveryPage,
    DeliveryStatus,
    EventDelivery,
    OutboundDestination,
)
from hogsend.contract.events import Announcement, StoredEvent


class ConnectInfo(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of connect-info that the CLI needs. Older servers omit those with a default."""

    private_host: str | None
    api_public_url: str
    host_explicit: bool | None = None
    personal_key_configured: bool | None = None
    webhook_secret_configured: bool | None = None
    scope_gap: tuple[str, ...] = ()


class OtherDestination(msgspec.Struct, frozen=True, rename="camel"):
    """A webhook destination in the same PostHog project that delivers to another server."""

    hog_function_id: str
    webhook_url: str
    dashboard_url: str | None = None


class Provisioning(msgspec.Struct, frozen=True, rename="camel"):
    """The response of provision-loop; no field is required (contract 1.2)."""

    created: bool | None = None
    hog_function_id: str | None = None
    webhook_url: str | None = None
    enabled: bool | None = None
    dashboard_url: str | None = None
    other_instances: list[OtherDestination] | None = None
    signed: bool | None = None
    unsigned_because: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The credential to store (contract 1.3). Its `repr` shows no token."""

    access_token: str
    refresh_token: str
    expires_at: str
    token_endpoint: str
    client_id: str
    scopes: list[str]
    scoped_teams: list[int]
    scoped_organizations: list[str]

    def __repr__(self) -> str:
        return "Grant(...)"


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Filters of the event list; None means any."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    limit: int | None = None
    offset: int | None = None
    before: str | None = None
    id: str | None = None


class ContactQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Filters of the contact list; None means any."""

    order: Literal["created"]
    search: str | None = None
    limit: int | None = None
    before: str | None = None


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Filters of the audit trail; None means any."""

    action: str | None = None
    actor: str | None = None
    limit: int | None = None
    before: str | None = None


class DeliveryQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Filters of a destination's deliveries; None means any."""

    status: DeliveryStatus | None = None
    limit: int | None = None
    offset: int | None = None


class DestinationHistory(msgspec.Struct, frozen=True):
    """A destination and its deliveries: the JSON document of `hogsend destinations show`."""

    destination: OutboundDestination
    history: DeliveryPage


class EventTrace(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event, and its way through Hogsend."""

    event: StoredEvent
    correlation_id: str | None
    queued_at: datetime | None = None
    stored_at: datetime | None = None
    announcement: Announcement
    deliveries: list[EventDelivery] | None
    """None if analytics did not reply to the server."""


class EventTraces(msgspec.Struct, frozen=True):
    """Events with the same id: the JSON document of `hogsend events show`."""

    events: list[EventTrace]


class SentEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event to store, as `POST /v1/events` expects it."""

    event: str
    user_id: str | None = None
    email: str | None = None
    properties: dict[str, Any] = {}
    contact_properties: dict[str, Any] = {}
    idempotency_key: str | None = None
    timestamp: str | None = None


class EventReplay(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The events to replay, and the durable consumer that receives them."""

    to: str
    since: str
    until: str | None = None
    after: str | None = None
    dry_run: bool = False


class NewBackfill(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A backfill to start: the events to import."""

    since: str
    until: str | None = None
    events: list[str] = []
    announce: bool = False


class BackfillCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of a dry run of a backfill."""

    count: int


class StoreRequest(msgspec.Struct, frozen=True):
    """The request body that stores a credential."""

    kind: str
    payload: Grant
