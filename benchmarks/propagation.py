"""From the PUT of a credential until three consumers hold the new version."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.figures import Figure, percentile
from benchmarks.processes import ADMIN_KEY, credentials, gateway, ingest
from hogsend.client.client import Client
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.servers import Servers

CONSUMERS = 3
CHANGES = 200
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
        buses = [
            Connection(User.SUBSCRIBER, servers.nats_url(User.SUBSCRIBER)) for _ in range(CONSUMERS)
        ]
        for bus in buses:
            await bus.open()
            stack.push_async_callback(bus.close)
        followers = [Client(bus).credential_changes("posthog") for bus in buses]
        elapsed, round_trips = [], []
        for _ in range(WARM_UP + CHANGES):
            started = time.perf_counter()
            await buses[0].flush()
            round_trips.append(time.perf_counter() - started)
            waiting = [asyncio.ensure_future(_next(follower)) for follower in followers]
            started = time.perf_counter()
            answer = await http.put(
                "/v1/admin/provider-credentials/posthog",
                json={"payload": GRANT},
                headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            )
            answer.raise_for_status()
            await asyncio.gather(*waiting)
            elapsed.append(time.perf_counter() - started)
    return [_figure("p50", 0.50, elapsed, round_trips), _figure("p99", 0.99, elapsed, round_trips)]


async def _next(changes: object) -> CredentialChanged:
    change: CredentialChanged = await anext(changes)  # type: ignore[call-overload]
    return change


def _figure(name: str, share: float, elapsed: list[float], round_trips: list[float]) -> Figure:
    whole = percentile(elapsed[WARM_UP:], share)
    bare = percentile(round_trips[WARM_UP:], share)
    return Figure(
        f"PUT of a credential until {CONSUMERS} consumers hold it / NATS round trip, {name}",
        f"{whole / bare:.0f}",
        "",
        {"whole_ms": round(whole * 1000, 2), "round_trip_ms": round(bare * 1000, 2)},
    )
