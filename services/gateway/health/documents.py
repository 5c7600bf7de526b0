"""The bodies of the health routes, for the upstream doctor (contract 8.6) and orchestrators."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

ACTIVITY_HOURS = 24

UpOrDown = Literal["up", "down"]
SecretKnowledge = Literal["known", "unknown", "unreadable", "missing"]
Condition = Literal["up", "down", "unknown"]
"""`unknown`: no service reported on it, because the bus that carries the reports is down."""
Status = Literal["healthy", "degraded", "migration_pending"]


class ComponentHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One dependency. It is `unknown` while no service that uses it replies."""

    status: Condition
    latency_ms: float | None = None
    problems: list[str] | None = None
    """Problems that need an operator although the dependency works: NATS streams with fewer
    replicas than configured, or servers in `NATS_URL` that are not of one cluster."""
    webhook_limit_bytes: int | None = None
    """Largest webhook that NATS accepts, in bytes, if that is less than `WEBHOOK_MAX_BYTES`. Larger
    webhooks are answered 413, and PostHog does not send them again. `status` is `degraded` then."""


class WorkerHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The ingest service, which turns webhooks into events."""

    status: Condition
    last_seen_at: datetime | None = None


class HealthComponents(msgspec.Struct, frozen=True):
    """Dependencies by the names the upstream doctor reads, and by their own."""

    database: ComponentHealth
    redis: ComponentHealth
    """The same as `bus`: there is no Redis, but the upstream doctor requires this key."""
    worker: WorkerHealth
    bus: ComponentHealth


class MigrationTrack(msgspec.Struct, frozen=True, rename="camel"):
    """Migrations of one track."""

    applied: str | None
    required: str | None
    in_sync: bool
    pending: list[str]


class MigrationTracks(msgspec.Struct, frozen=True):
    """Migrations of Hogsend, and of a client application, which has none here."""

    engine: MigrationTrack
    client: MigrationTrack


class UncountedActivity(msgspec.Struct, frozen=True):
    """Counts that the upstream doctor reads and this product does not have."""

    failed: int | None = None


class JourneyActivity(UncountedActivity, frozen=True):
    """Journeys are not part of this product."""

    completed: int | None = None


class EmailActivity(UncountedActivity, frozen=True):
    """Emails are not part of this product."""

    sent: int | None = None


class RecentActivity(msgspec.Struct, frozen=True, rename="camel"):
    """Activity of the last hours."""

    window_hours: int = ACTIVITY_HOURS
    journeys: JourneyActivity = JourneyActivity()
    emails: EmailActivity = EmailActivity()


class ServiceHealthBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The reply of one service over NATS. The service is `unknown` while NATS does not respond."""

    status: Condition
    latency_ms: float | None = None
    uptime: float | None = None
    database: UpOrDown | None = None
    credential_version: int | None = None
    """Version of the PostHog credential that the service uses, if any."""
    waits_for: str | None = None
    """A missing dependency. The service is `down` until it is available.

    For the gateway: `webhook secret`, `readable webhook secret`, `new webhook secret` or `spool`,
    while every webhook is answered 503; `room in the spool`, while webhooks are answered 429.
    """
    spool_set_aside: int | None = None
    """Number of items in the gateway's spool that an operator must handle: webhooks that JetStream
    refuses, damaged files, and files that the gateway may not open. The system is `degraded` until
    it is 0.
    """
    workers: int | None = None
    """Gateway processes that should run, if more than one (`GATEWAY_WORKERS`)."""
    workers_up: int | None = None
    """Gateway processes that reply. The system is `degraded` while it is fewer than `workers`."""


class CredentialHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Whether a provider's stored credential works, without any of its content."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    version: int | None = None


class Health(msgspec.Struct, frozen=True):
    """Health of the whole system. The response's status is always 200."""

    status: Status
    uptime: float
    timestamp: datetime
    version: str
    components: HealthComponents
    schema: MigrationTracks
    activity: RecentActivity
    services: dict[str, ServiceHealthBody]
    credentials: dict[str, CredentialHealth]


class Liveness(msgspec.Struct, frozen=True):
    """The process responds."""

    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether requests should be sent to this gateway, and the causes if not."""

    ready: bool
    bus: UpOrDown
    webhook_secret: SecretKnowledge
    """With `unreadable`, or `missing` while the webhook is not open without a secret, webhooks are
    answered 503 until an operator acts."""
    spooled: int
    """Webhooks in the spool."""
    spool_full: bool
    """Whether webhooks are answered 429: JetStream accepts none, and the spool is full."""
