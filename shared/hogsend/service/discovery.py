"""Service discovery of NATS: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` (NATS ADR-32).

`nats micro ls`, `nats micro info` and `nats micro stats` show each service with its endpoints and
their request counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

import msgspec
from faststream._internal.broker.registrator import Registrator
from faststream.message import StreamMessage
from faststream.nats import NatsRouter
from nats.aio.msg import Msg

from hogsend._version import __version__
from hogsend.contract.activity import Activity
from hogsend.contract.discovery import MAX_PING_BYTES, PingQuery, ping_subject
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.registry import Endpoint
from hogsend.service.requester import RequesterMiddleware
from hogsend.service.service_stats import ServiceStats
from hogsend.service.subscribers.pings import PingSubscriber

_TYPE = "io.nats.micro.v1"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all discovery replies have."""

    name: str
    id: str
    version: str
    metadata: dict[str, str] = {}


class Ping(Identity, frozen=True, kw_only=True):
    """Reply to `$SRV.PING`."""

    type: str = f"{_TYPE}.ping_response"
    in_progress: list[str] | msgspec.UnsetType = msgspec.field(
        name="inProgress", default=msgspec.UNSET
    )
    """As in `PingedReplica`; absent for a ping that names no request."""


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
    unanswered: Callable[[], AbstractSet[str]],
    activity: Callable[[], Activity] | None = None,
) -> NatsRouter:
    """Create the router that replies to discovery requests for one instance of a service.

    Args:
        service: name of the service.
        endpoints: of the service.
        stats: counts of the endpoints.
        instance: id of this process.
        unanswered: returns the `REQUEST_ID` of each request in progress here.
        activity: returns other counts of the service.
    """
    identity = Identity(name=f"hogsend-{service}", id=instance, version=__version__)
    ping = Ping(name=identity.name, id=identity.id, version=identity.version)
    listed, started = list(endpoints), datetime.now(UTC)
    router = NatsRouter(include_in_schema=False, middlewares=[RequesterMiddleware])

    async def reply_ping() -> Ping:
        """Return the identity of this instance."""
        return ping

    async def reply_service_ping(query: PingQuery) -> Ping:
        """Return the identity of this instance, and which of the requests in question it has."""
        if not query.requests:
            return ping
        in_progress = sorted(unanswered() & set(query.requests))
        return msgspec.structs.replace(ping, in_progress=in_progress)

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

    named = PingSubscriber(ping_subject(service), router.config)  # type: ignore[arg-type]
    Registrator.subscriber(router, named)
    named.add_call(parser_=None, decoder_=_decode_ping, dependencies_=())(reply_service_ping)
    router.subscriber("$SRV.PING")(reply_ping)
    router.subscriber(f"{ping_subject(service)}.{identity.id}")(reply_ping)
    for verb, handler in (("INFO", reply_info), ("STATS", reply_stats)):
        for subject in (
            f"$SRV.{verb}",
            f"$SRV.{verb}.{identity.name}",
            f"$SRV.{verb}.{identity.name}.{identity.id}",
        ):
            router.subscriber(subject)(handler)
    return router


async def _decode_ping(message: StreamMessage[Msg]) -> PingQuery:
    if len(message.body) > MAX_PING_BYTES:
        return PingQuery()
    try:
        return msgspec.json.decode(message.body or b"{}", type=PingQuery)
    except NOT_JSON:
        return PingQuery()


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
