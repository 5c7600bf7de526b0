"""Time from the PUT of a credential until the last of a few, and of many, consumers received it.

All consumers are in this process, each with its own connection. So the last of many waits until the
others have processed the change, which separate services would do at the same time. The details
contain the CPU time of one consumer, here and in nats-server.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.cost import MICROSECONDS
from benchmarks.figures import Figure, percentile
from benchmarks.processes import ADMIN_KEY, cpu_seconds, credentials, gateway, ingest
from hogsend.client.client import Client
from hogsend.client.subscriptions import CredentialChanges
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.servers import Servers

FEW, MANY = 3, 100
CHANGES = 100
WARM_UP = 20
GRANT = {
    "accessToken": "pha_bench",
    "refreshToken": "phr_bench",
    "expiresAt": "2099-01-01T00:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read"],
}


async def measure(servers: Servers) -> list[Figure]:
    """Change a credential repeatedly, and compare with a round trip to nats-server."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(servers.fresh_database())
        await stack.enter_async_context(credentials(servers, url))
        await stack.enter_async_context(ingest(servers, url))
        http = await stack.enter_async_context(
            gateway(servers, directory, ["-m", "cli.main", "serve", "gateway"])
        )
        few, many = [await _followed_by(number, servers, http) for number in (FEW, MANY)]
    more = MANY - FEW
    each = {
        "us_of_a_consumer": (many.own_us - few.own_us) / more,
        "us_of_nats_server_for_each": (many.server_us - few.server_us) / more,
    }
    return [*_figures(few, {}), *_figures(many, {name: round(us) for name, us in each.items()})]


class _Followed(NamedTuple):
    """Times of all changes in seconds, with a number of consumers."""

    consumers: int
    received: list[float]
    """Until the last consumer received the change."""
    responded: list[float]
    """Until the response to the PUT."""
    round_trips: list[float]
    own_us: float
    """CPU microseconds of this process for a change."""
    server_us: float
    """CPU microseconds of nats-server for a change."""


async def _followed_by(consumers: int, servers: Servers, http: httpx.AsyncClient) -> _Followed:
    """Change the credential repeatedly, with a number of consumers on separate connections."""
    received, responded, round_trips = [], [], []
    own = server = 0.0
    async with AsyncExitStack() as stack:
        buses = [
            Connection(User.SUBSCRIBER, servers.nats_url(User.SUBSCRIBER)) for _ in range(consumers)
        ]
        for bus in buses:
            await bus.open()
            stack.push_async_callback(bus.close)
        followers = [Client(bus).credential_changes("posthog") for bus in buses]
        await _put(http)
        await asyncio.gather(*(_next(follower) for follower in followers))
        for number in range(WARM_UP + CHANGES):
            if number == WARM_UP:
                own, server = time.process_time(), cpu_seconds("nats-server")
            started = time.perf_counter()
            await buses[0].flush()
            round_trips.append(time.perf_counter() - started)
            waiting = [asyncio.ensure_future(_next(follower)) for follower in followers]
            started = time.perf_counter()
            await _put(http)
            responded.append(time.perf_counter() - started)
            received.append(max(await asyncio.gather(*waiting)) - started)
        own, server = time.process_time() - own, cpu_seconds("nats-server") - server
    return _Followed(
        consumers,
        received[WARM_UP:],
        responded[WARM_UP:],
        round_trips[WARM_UP:],
        own / CHANGES * MICROSECONDS,
        server / CHANGES * MICROSECONDS,
    )


def _figures(followed: _Followed, each: dict[str, float]) -> list[Figure]:
    return [
        _figure(
            f"PUT of a credential until the last of {followed.consumers} consumers in one process "
            f"holds it / NATS round trip, {name}",
            goal,
            {
                "held_ms": percentile(followed.received, share),
                "answered_ms": percentile(followed.responded, share),
                "round_trip_ms": percentile(followed.round_trips, share),
            },
            each,
        )
        for name, share, goal in (("p50", 0.50, "<= 12"), ("p99", 0.99, "<= 20"))
    ]


async def _put(http: httpx.AsyncClient) -> None:
    response = await http.put(
        "/v1/admin/provider-credentials/posthog",
        json={"payload": GRANT},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )
    response.raise_for_status()


async def _next(changes: CredentialChanges) -> float:
    """Wait for a change, and return the time at which it was received."""
    await anext(changes)
    return time.perf_counter()


def _figure(name: str, goal: str, seconds: dict[str, float], each: dict[str, float]) -> Figure:
    ratio = seconds["held_ms"] / seconds["round_trip_ms"]
    details = {key: round(value * 1000, 2) for key, value in seconds.items()}
    return Figure(name, f"{ratio:.0f}", goal, details | each)
