"""The health document of a Hogsend server: this project's, or upstream's (contract 8.6)."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """Health of a dependency or service, as the gateway reports it."""

    status: str
    latency_ms: float | None = None
    uptime: float | None = None
    database: str | None = None
    """Status of the service's database, as the service reports it."""
    waits_for: str | None = None
    """The dependency that a service waits for, or a sentence with the reason."""
    problems: list[str] | None = None
    """Problems that need the operator's attention although the part is up."""
    webhook_limit_bytes: int | None = None
    """Largest webhook that NATS accepts, if that is less than WEBHOOK_MAX_BYTES."""
    workers: int | None = None
    """Number of gateway worker processes that should run, if more than one."""
    workers_up: int | None = None
    """Number of gateway worker processes that respond."""

    @property
    def workers_summary(self) -> str:
        """How many worker processes run; empty for a single process."""
        return f"{self.workers_up or 0} of {self.workers} workers" if self.workers else ""

    @property
    def lacks_workers(self) -> bool:
        """Whether fewer worker processes run than should."""
        return (self.workers_up or 0) < (self.workers or 0)


class Components(msgspec.Struct, frozen=True):
    """Dependencies of the server. Upstream has no `bus`, and may have no `worker`."""

    database: Part
    redis: Part
    worker: Part | None = None
    bus: Part | None = None


class Track(msgspec.Struct, frozen=True, rename="camel"):
    """Migrations of one schema."""

    in_sync: bool
    pending: list[str]
    applied: str | None = None
    """Newest applied migration; None while no service could check."""


class Schema(msgspec.Struct, frozen=True):
    """Hogsend's own migrations, and those of a client application."""

    engine: Track
    client: Track


class ProviderHealth(msgspec.Struct, frozen=True):
    """State of one provider's credential."""

    state: str


class Health(msgspec.Struct, frozen=True):
    """The fields of the health document that `doctor` and `status` use."""

    status: str
    uptime: float
    version: str
    components: Components
    schema: Schema
    services: dict[str, Part] = {}
    credentials: dict[str, ProviderHealth] = {}


def parts(health: Health) -> dict[str, Part]:
    """Return every part by name.

    A server with a `bus` repeats its status as `redis` for upstream's clients, so `redis` is left
    out there.
    """
    components = health.components
    by_name = {"bus": components.bus} if components.bus else {"redis": components.redis}
    by_name["database"] = components.database
    if components.worker and not health.services:
        by_name["worker"] = components.worker
    return {**by_name, **health.services}
