"""From the PUT of a credential until the last of a few, and of many, consumers holds it.

All consumers are in this process, each on a connection of its own, so that the last of many waits
for what all the others do with the change before it. In services of their own they do that at the
same time: what one takes, here and of the server, is beside the figure.
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
    """Change a credential again and again; compare with a bare round trip to the server."""
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
    """What changes took with so many consumers; times in seconds, one of each change."""

    consumers: int
    held: list[float]
    answered: list[float]
    round_trips: list[float]
    own_us: float
    """CPU microseconds of this process a change."""
    server_us: float
    """The same of nats-server."""


async def _followed_by(consumers: int, servers: Servers, http: httpx.AsyncClient) -> _Followed:
    """Change the credential with so many consumers, each on a connection of its own."""
    held, answered, round_trips = [], [], []
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
            answered.append(time.perf_counter() - started)
            held.append(max(await asyncio.gather(*waiting)) - started)
        own, server = time.process_time() - own, cpu_seconds("nats-server") - server
    return _Followed(
        consumers,
        held[WARM_UP:],
        answered[WARM_UP:],
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
                "held_ms": percentile(followed.held, share),
                "answered_ms": percentile(followed.answered, share),
                "round_trip_ms": percentile(followed.round_trips, share),
            },
            each,
        )
        for name, share, goal in (("p50", 0.50, "<= 12"), ("p99", 0.99, "<= 20"))
    ]


async def _put(http: httpx.AsyncClient) -> None:
    answer = await http.put(
        "/v1/admin/provider-credentials/posthog",
        json={"payload": GRANT},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )
    answer.raise_for_status()


async def _next(changes: CredentialChanges) -> float:
    """Wait for a change, and tell when it came."""
    await anext(changes)
    return time.perf_counter()


def _figure(name: str, goal: str, seconds: dict[str, float], each: dict[str, float]) -> Figure:
    ratio = seconds["held_ms"] / seconds["round_trip_ms"]
    details = {key: round(value * 1000, 2) for key, value in seconds.items()}
    return Figure(name, f"{ratio:.0f}", goal, details | each)
