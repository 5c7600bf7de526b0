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
    """Duration of the probe in milliseconds; of the database the longest one that a service
    measured. Absent if it did not respond."""
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
    """Time of this report if the service replied; absent if it did not."""


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
    """Latest applied migration of each service, for example `ingest/0004 analytics/0001`; null if
    none is known."""
    required: str | None
    """Latest migration that each service needs, in the same form."""
    in_sync: bool
    """Whether all migrations are applied."""
    pending: list[str]
    """Migrations that are not applied yet, for example `ingest/0005`."""


class MigrationTracks(msgspec.Struct, frozen=True):
    """Migrations of Hogsend, and of a client application, which has none here."""

    engine: MigrationTrack
    """Migrations of all services."""
    client: MigrationTrack
    """Always in sync and without migrations."""


class UncountedActivity(msgspec.Struct, frozen=True):
    """Counts that the upstream doctor reads and this product does not have."""

    failed: int | None = None
    """Always null."""


class JourneyActivity(UncountedActivity, frozen=True):
    """Journeys are not part of this product."""

    completed: int | None = None
    """Always null."""


class EmailActivity(UncountedActivity, frozen=True):
    """Emails are not part of this product."""

    sent: int | None = None
    """Always null."""


class RecentActivity(msgspec.Struct, frozen=True, rename="camel"):
    """Activity of the last hours."""

    window_hours: int = ACTIVITY_HOURS
    journeys: JourneyActivity = JourneyActivity()
    emails: EmailActivity = EmailActivity()


class ServiceHealthBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The reply of one service over NATS. The service is `unknown` while NATS does not respond."""

    status: Condition
    latency_ms: float | None = None
    """Duration of the health request to the service in milliseconds; absent for the gateway."""
    uptime: float | None = None
    """Seconds since the process started."""
    database: UpOrDown | None = None
    """Whether the service reaches PostgreSQL; absent for the gateway, which does not use it."""
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
    """`unreadable`: it cannot be decrypted. `needs_reconnect`: PostHog refused the refresh token.
    `unknown`: the service `credentials` does not reply."""
    version: int | None = None
    """Version of the credential: every change increases it. Absent while `credentials` does not
    reply."""


class Health(msgspec.Struct, frozen=True):
    """Health of the whole system. The response's status is always 200."""

    status: Status
    """`degraded`: something is not `up`, or needs an operator. `migration_pending`: a service waits
    for a migration of its tables."""
    uptime: float
    """Seconds since the gateway process started."""
    timestamp: datetime
    version: str
    """The gateway's version."""
    components: HealthComponents
    schema: MigrationTracks
    activity: RecentActivity
    services: dict[str, ServiceHealthBody]
    """Health by service: `gateway`, `credentials`, `ingest`, `provisioner` and `analytics`."""
    credentials: dict[str, CredentialHealth]
    """State of the stored credential by provider, for example `posthog`."""


class Liveness(msgspec.Struct, frozen=True):
    """The process responds."""

    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether requests should be sent to this gateway, and the causes if not."""

    ready: bool
    bus: UpOrDown
    """Whether the gateway is connected to NATS."""
    webhook_secret: SecretKnowledge
    """With `unreadable`, or `missing` while the webhook is not open without a secret, webhooks are
    answered 503 until an operator acts."""
    spooled: int
    """Webhooks in the spool."""
    spool_full: bool
    """Whether webhooks are answered 429: JetStream accepts none, and the spool is full."""
