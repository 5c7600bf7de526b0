"""The health document of a Hogsend server, ours or upstream's (contract 8.6)."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """A dependency or service, as the gateway sees it."""

    status: str
    latency_ms: float | None = None
    uptime: float | None = None
    database: str | None = None
    """Status of the service's database, as the service reports it."""
    waits_for: str | None = None
    """The dependency that a service is waiting for."""
    problems: list[str] | None = None
    """What an operator has to see to, although it works."""
    webhook_limit_bytes: int | None = None
    """Largest webhook the bus takes, where that is less than the server is configured for."""
    workers: int | None = None
    """Processes of the gateway that should run, where it is more than one."""
    workers_up: int | None = None
    """How many of them answer."""

    @property
    def workers_said(self) -> str:
        """How many of its processes run; empty where it is one."""
        return f"{self.workers_up or 0} of {self.workers} workers" if self.workers else ""

    @property
    def lacks_workers(self) -> bool:
        """Whether fewer of its processes run than should."""
        return (self.workers_up or 0) < (self.workers or 0)


class Components(msgspec.Struct, frozen=True):
    """Dependencies of the server. Upstream has no bus, and may have no worker."""

    database: Part
    redis: Part
    worker: Part | None = None
    bus: Part | None = None


class Track(msgspec.Struct, frozen=True, rename="camel"):
    """Migrations of one track."""

    in_sync: bool
    pending: list[str]
    applied: str | None = None
    """Newest one; None while no service could check."""


class Schema(msgspec.Struct, frozen=True):
    """Hogsend's own migrations, and those of a client application."""

    engine: Track
    client: Track


class ProviderHealth(msgspec.Struct, frozen=True):
    """State of one provider's credential."""

    state: str


class Health(msgspec.Struct, frozen=True):
    """The fields that `doctor` and `status` use."""

    status: str
    uptime: float
    version: str
    components: Components
    schema: Schema
    services: dict[str, Part] = {}
    credentials: dict[str, ProviderHealth] = {}


def parts(health: Health) -> dict[str, Part]:
    """Return every part by name; our gateway's `redis` repeats its bus and is left out."""
    seen = health.components
    named = {"bus": seen.bus} if seen.bus else {"redis": seen.redis}
    named["database"] = seen.database
    if seen.worker and not health.services:
        named["worker"] = seen.worker
    return {**named, **health.services}
