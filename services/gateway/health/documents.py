"""The health documents: for the upstream doctor (contract 8.6) and for orchestrators."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

ACTIVITY_HOURS = 24

UpOrDown = Literal["up", "down"]
SecretKnowledge = Literal["known", "unknown", "unreadable", "missing"]
Condition = Literal["up", "down", "unknown"]
"""`unknown`: no service reported on it, as the bus that would have carried the answer is down."""
Status = Literal["healthy", "degraded", "migration_pending"]


class ComponentHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One dependency; `unknown` while no service that uses it answers."""

    status: Condition
    latency_ms: float | None = None
    problems: list[str] | None = None
    """What an operator has to see to, although it works: streams of NATS with fewer copies than
    they should have, or servers in `NATS_URL` that do not know one another."""
    webhook_limit_bytes: int | None = None
    """Largest webhook that NATS takes, where that is less than `WEBHOOK_MAX_BYTES`: larger ones are
    answered 413, and PostHog does not send them again. The whole is not healthy then."""


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
    """Hogsend's migrations; a client application has none here."""

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
    """One of Hogsend's services, as it answers over NATS; `unknown` while NATS does not."""

    status: Condition
    latency_ms: float | None = None
    uptime: float | None = None
    database: UpOrDown | None = None
    credential_version: int | None = None
    """Version of PostHog's credential that it uses, if it uses one."""
    waits_for: str | None = None
    """What it cannot work without; the service is down until that is available.

    For the gateway: `webhook secret`, `readable webhook secret`, `new webhook secret` or `spool`,
    while every webhook is answered 503; `room in the spool`, while webhooks are answered 429.
    """
    spool_set_aside: int | None = None
    """What an operator has to look at in the gateway's spool: webhooks that JetStream refuses,
    damaged files, and those that the gateway may not open. The whole is not healthy until there is
    none.
    """
    workers: int | None = None
    """Processes of the gateway that should run, where it is more than one (`GATEWAY_WORKERS`)."""
    workers_up: int | None = None
    """How many of them answer. The whole is not healthy while it is fewer."""


class CredentialHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Whether a provider's stored credential works; nothing of its content."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    version: int | None = None


class Health(msgspec.Struct, frozen=True):
    """Health of the whole system; always answered with 200."""

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
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether requests should be sent here, and why not."""

    ready: bool
    bus: UpOrDown
    webhook_secret: SecretKnowledge
    """`unreadable`, or `missing` where the webhook is not open without one: webhooks are answered
    503 until the operator acts."""
    spooled: int
    """Webhooks in the spool."""
    spool_full: bool
    """Whether webhooks are answered 429: JetStream takes none, and the spool has no room."""
