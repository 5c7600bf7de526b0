"""From the PUT of a credential until the last of a few, and of many, consumers holds it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from benchmarks.figures import Figure, percentile
from benchmarks.processes import ADMIN_KEY, credentials, gateway, ingest
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
        return [
            figure
            for consumers in (FEW, MANY)
            for figure in await _followed_by(consumers, servers, http)
        ]


async def _followed_by(consumers: int, servers: Servers, http: httpx.AsyncClient) -> list[Figure]:
    """Change the credential with so many consumers, each on a connection of its own."""
    held, answered, round_trips = [], [], []
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
        for _ in range(WARM_UP + CHANGES):
            started = time.perf_counter()
            await buses[0].flush()
            round_trips.append(time.perf_counter() - started)
            waiting = [asyncio.ensure_future(_next(follower)) for follower in followers]
            started = time.perf_counter()
            await _put(http)
            answered.append(time.perf_counter() - started)
            held.append(max(await asyncio.gather(*waiting)) - started)
    return [
        _figure(
            f"PUT of a credential until the last of {consumers} consumers holds it / "
            f"NATS round trip, {name}",
            goal,
            {
                "held_ms": percentile(held[WARM_UP:], share),
                "answered_ms": percentile(answered[WARM_UP:], share),
                "round_trip_ms": percentile(round_trips[WARM_UP:], share),
            },
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


def _figure(name: str, goal: str, seconds: dict[str, float]) -> Figure:
    ratio = seconds["held_ms"] / seconds["round_trip_ms"]
    details = {key: round(value * 1000, 2) for key, value in seconds.items()}
    return Figure(name, f"{ratio:.0f}", goal, details)
