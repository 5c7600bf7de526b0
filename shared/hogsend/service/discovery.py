"""Service discovery of NATS: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` (NATS ADR-32).

`nats micro ls`, `nats micro info` and `nats micro stats` show each service with its endpoints and
their request counts.
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
    """Counts of one endpoint since its service started."""

    def __init__(self, verb: str) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0
        self._verb = verb
        self._seconds: dict[str, Histogram] = {}

    def record(self, seconds: float, code: str | None, text: str) -> None:
        """Count a request that was answered.

        Args:
            seconds: how long its handler took.
            code: error code of the reply; None for a success.
            text: error text of the reply.
        """
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
    """Counts of every endpoint of one service."""

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointStats] = {}

    def of(self, subject: str) -> EndpointStats:
        """Return the stats of the endpoint with this subject."""
        stats = self._endpoints.get(subject)
        if stats is None:
            stats = self._endpoints[subject] = EndpointStats(subject.rpartition(".")[2])
        return stats


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all discovery replies have."""

    name: str
    id: str
    version: str
    metadata: dict[str, str] = {}


class Ping(Identity, frozen=True, kw_only=True):
    """Reply to `$SRV.PING`."""

    type: str = f"{_TYPE}.ping_response"


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and the queue group that serves it."""

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str]


class Info(Identity, frozen=True, kw_only=True):
    """Reply to `$SRV.INFO`: the endpoints of the service."""

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
    """Reply to `$SRV.STATS`: the counts of every endpoint since `started`."""

    type: str = f"{_TYPE}.stats_response"
    started: datetime
    endpoints: list[EndpointReport]
    data: Activity | None = None
    """Other counts of the service; None if it has none, or is of an earlier version."""


def discovery_router(
    service: str,
    endpoints: Iterable[Endpoint[Any, Any]],
    stats: ServiceStats,
    *,
    instance: str,
    activity: Callable[[], Activity] | None = None,
) -> NatsRouter:
    """Create the router that replies to discovery requests for one instance of a service.

    Args:
        service: name of the service.
        endpoints: of the service.
        stats: counts of the endpoints.
        instance: id of this process.
        activity: returns other counts of the service.
    """
    identity = Identity(name=f"hogsend-{service}", id=instance, version=__version__)
    listed, started = list(endpoints), datetime.now(UTC)
    router = NatsRouter(include_in_schema=False, middlewares=[RequesterMiddleware])

    async def reply_ping() -> Ping:
        """Return the identity of this instance."""
        return Ping(name=identity.name, id=identity.id, version=identity.version)

    async def reply_info() -> Info:
        """Return a description of every endpoint."""
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
                for endpoint in listed
            ],
        )

    async def reply_stats() -> Stats:
        """Return the counts of every endpoint."""
        return Stats(
            name=identity.name,
            id=identity.id,
            version=identity.version,
            started=started,
            endpoints=[_report(service, endpoint, stats) for endpoint in listed],
            data=activity() if activity is not None else None,
        )

    for verb, handler in (("PING", reply_ping), ("INFO", reply_info), ("STATS", reply_stats)):
        for subject in (
            f"$SRV.{verb}",
            f"$SRV.{verb}.{identity.name}",
            f"$SRV.{verb}.{identity.name}.{identity.id}",
        ):
            router.subscriber(subject)(handler)
    return router


def _report(
    service: str, endpoint: Endpoint[Any, Any], service_stats: ServiceStats
) -> EndpointReport:
    stats = service_stats.of(endpoint.subject)
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
