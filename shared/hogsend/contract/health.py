"""What a service says about itself when the gateway asks."""

from __future__ import annotations

from typing import Literal

from hogsend.contract.base import Empty, Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User


class DependencyHealth(Message, frozen=True):
    """One dependency as the service sees it."""

    status: Literal["up", "down"]
    latency_ms: float | None = None


class SchemaHealth(Message, frozen=True):
    """Migrations of the service's own schema."""

    applied: str | None
    required: str | None
    pending: list[str]

    @property
    def in_sync(self) -> bool:
        """Whether nothing is left to migrate."""
        return not self.pending


class ServiceHealth(Message, frozen=True):
    """Answer to `hogsend.rpc.<service>.health`."""

    service: str
    uptime: float
    """Seconds since this process started."""
    database: DependencyHealth
    schema: SchemaHealth
    credential_version: int | None = None
    """Version of PostHog's credential it works with; None when it holds none."""
    waits_for: str | None = None
    """The unavailable dependency that it cannot work without, if there is one."""
    bus_problems: list[str] = []
    """What it sees of NATS that needs an operator, such as a stream with too few copies."""


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
