"""The health endpoints, through which the gateway checks every service."""

from __future__ import annotations

from typing import Literal

from hogsend.contract.base import Empty, Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User


class DependencyHealth(Message, frozen=True):
    """State of one dependency, as the service sees it."""

    status: Literal["up", "down"]
    latency_ms: float | None = None


class SchemaHealth(Message, frozen=True):
    """State of the migrations of the service's database schema."""

    applied: str | None
    """The latest applied migration."""
    required: str | None
    """The latest migration that this version has."""
    pending: list[str]
    """Migrations that are not applied yet."""

    @property
    def in_sync(self) -> bool:
        """Whether all migrations are applied."""
        return not self.pending


class ServiceHealth(Message, frozen=True):
    """Reply to `hogsend.rpc.<service>.health`: the health of one replica."""

    service: str
    uptime: float
    """Seconds since this process started."""
    database: DependencyHealth
    schema: SchemaHealth
    credential_version: int | None = None
    """Version of the PostHog credential that the replica uses; None if it uses none."""
    waits_for: str | None = None
    """An unavailable dependency without which the replica cannot work; None if there is no such."""
    bus_problems: list[str] = []
    """Problems of NATS that an operator has to solve, such as a stream with too few copies."""


CREDENTIALS_HEALTH = Endpoint(
    service=User.CREDENTIALS,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)
INGEST_HEALTH = Endpoint(
    service=User.INGEST,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)
PROVISIONER_HEALTH = Endpoint(
    service=User.PROVISIONER,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)
ANALYTICS_HEALTH = Endpoint(
    service=User.ANALYTICS,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)
