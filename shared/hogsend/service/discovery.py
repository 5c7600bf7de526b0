"""A service as NATS' own tools see it: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` (NATS ADR-32).

`nats micro ls`, `nats micro info` and `nats micro stats` show every endpoint, and what was counted
where it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from faststream.nats import NatsRouter
from prometheus_client import Histogram

from hogsend._version import __version__
from hogsend.contract.activity import Activity
from hogsend.contract.registry import Endpoint
from hogsend.service import metrics
from hogsend.service.requester import RequesterMiddleware

_TYPE = "io.nats.micro.v1"


class EndpointStats:
    """What was counted at one endpoint since its service started."""

    def __init__(self, verb: str) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0
        self._verb = verb
        self._seconds: dict[str, Histogram] = {}

    def record(self, seconds: float, code: str | None, text: str) -> None:
        """Count a request that was answered, with an error's code and text when it failed."""
        self.requests += 1
        self.processing_ns += round(seconds * 1e9)
        if code is not None:
            self.errors += 1
            self.last_error = f"{code}:{text}"
        label = code or "ok"
        histogram = self._seconds.get(label)
        if histogram is None:
            histogram = self._seconds[label] = metrics.RPC_SECONDS.labels(self._verb, label)
        histogram.observe(seconds)


class ServiceStats:
    """What was counted at every endpoint of one service."""

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointStats] = {}

    def at(self, subject: str) -> EndpointStats:
        """Stats of the endpoint on a subject."""
        found = self._endpoints.get(subject)
        if found is None:
            found = self._endpoints[subject] = EndpointStats(subject.rpartition(".")[2])
        return found


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer begins with."""

    name: str
    id: str
    version: str
    metadata: dict[str, str] = {}


class Ping(Identity, frozen=True, kw_only=True):
    """The instance is there."""

    type: str = f"{_TYPE}.ping_response"


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and who may answer it."""

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str]


class Info(Identity, frozen=True, kw_only=True):
    """What the instance answers."""

    type: str = f"{_TYPE}.info_response"
    description: str
    endpoints: list[EndpointInfo]


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one endpoint; times in nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int


class Stats(Identity, frozen=True, kw_only=True):
    """Counts of every endpoint since `started`."""

    type: str = f"{_TYPE}.stats_response"
    started: datetime
    endpoints: list[EndpointReport]
    data: Activity | None = None
    """What it did besides; None for a service that counts nothing, or of an earlier version."""


def discovery_router(
    service: str,
    endpoints: Iterable[Endpoint[Any, Any]],
    counted: ServiceStats,
    *,
    instance: str,
    activity: Callable[[], Activity] | None = None,
) -> NatsRouter:
    """Make the router that answers discovery for one instance of a service.

    Args:
        service: the one that answers.
        endpoints: what it answers.
        counted: what was counted there.
        instance: id of this process among those of the service.
        activity: says what it did besides.
    """
    identity = Identity(name=f"hogsend-{service}", id=instance, version=__version__)
    answered, started = list(endpoints), datetime.now(UTC)
    router = NatsRouter(include_in_schema=False, middlewares=[RequesterMiddleware])

    async def ping() -> Ping:
        """Say that this instance is there."""
        return Ping(name=identity.name, id=identity.id, version=identity.version)

    async def info() -> Info:
        """Describe every endpoint."""
        return Info(
            name=identity.name,
            id=identity.id,
            version=identity.version,
            description=f"Hogsend's {service} service",
            endpoints=[
                EndpointInfo(
                    name=endpoint.verb,
                    subject=endpoint.subject,
                    queue_group=service,
                    metadata={"summary": endpoint.summary},
                )
                for endpoint in answered
            ],
        )

    async def stats() -> Stats:
        """Report what was counted at every endpoint."""
        return Stats(
            name=identity.name,
            id=identity.id,
            version=identity.version,
            started=started,
            endpoints=[_report(service, endpoint, counted) for endpoint in answered],
            data=activity() if activity is not None else None,
        )

    for verb, answer in (("PING", ping), ("INFO", info), ("STATS", stats)):
        for subject in (
            f"$SRV.{verb}",
            f"$SRV.{verb}.{identity.name}",
            f"$SRV.{verb}.{identity.name}.{identity.id}",
        ):
            router.subscriber(subject)(answer)
    return router


def _report(service: str, endpoint: Endpoint[Any, Any], counted: ServiceStats) -> EndpointReport:
    stats = counted.at(endpoint.subject)
    return EndpointReport(
        name=endpoint.verb,
        subject=endpoint.subject,
        queue_group=service,
        num_requests=stats.requests,
        num_errors=stats.errors,
        last_error=stats.last_error,
        processing_time=stats.processing_ns,
        average_processing_time=stats.processing_ns // stats.requests if stats.requests else 0,
    )
