"""Rate of persons read from analytics' warm cache, compared with an echo service."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks.figures import Figure, median
from benchmarks.processes import credentials, process
from hogsend.contract.errors import Unavailable
from hogsend.contract.persons import ANALYTICS_PERSON, GetPerson
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.posthog_recorder import posthog_recorder
from tests.servers import Servers
from tests.waiting import eventually

REQUESTS = 8000
CONCURRENCY = 32
PEOPLE = 500
ROUNDS = 3
PROPERTIES: dict[str, Any] = {
    "email": "ada@example.com",
    "plan": "pro",
    "$timezone": "Europe/London",
    "$geoip_country_code": "GB",
    "$initial_referrer": "https://example.com/pricing",
    "seats": 12,
}


async def measure(servers: Servers) -> list[Figure]:
    """Measure analytics and the echo in turn, several rounds."""
    real, echo = [], []
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(servers.fresh_database())
        posthog = await stack.enter_async_context(posthog_recorder())
        posthog.persons = {f"u_{number}": PROPERTIES for number in range(PEOPLE)}
        bus = Connection(User.APP, servers.nats_url(User.APP))
        await bus.open()
        stack.push_async_callback(bus.close)
        key = {"POSTHOG_PERSONAL_API_KEY": "phx_bench"}
        await stack.enter_async_context(credentials(servers, url, **key))
        nats = {"NATS_URL": servers.nats_url(User.ANALYTICS)}
        for _ in range(ROUNDS):
            async with process(
                *("-m", "cli.main", "serve", "analytics"),
                DATABASE_URL=url,
                POSTHOG_HOST=posthog.url,
                **nats,
            ):
                real.append(await _rate(bus))
            async with process("-m", "benchmarks.person_echo", **nats):
                echo.append(await _rate(bus))
    ratio = median([rate / base for rate, base in zip(real, echo, strict=True)])
    return [
        Figure(
            "persons read, cache warm / requests echoed",
            f"{ratio:.2f}",
            ">= 0.80",
            {
                "persons_per_second": round(median(real)),
                "echoes_per_second": round(median(echo)),
                "asking": CONCURRENCY,
            },
        )
    ]


async def _rate(bus: Connection) -> float:
    requests = [GetPerson(f"u_{number}") for number in range(PEOPLE)]

    async def read(request: GetPerson) -> bool:
        try:
            return bool((await bus.request(ANALYTICS_PERSON, request)).properties)
        except Unavailable:
            return False

    await eventually(lambda: read(requests[0]), 30)
    for request in requests:
        await eventually(partial(read, request), 30)

    async def send_requests(first: int) -> None:
        for number in range(first, REQUESTS, CONCURRENCY):
            await bus.request(ANALYTICS_PERSON, requests[number % PEOPLE])

    started = time.perf_counter()
    await asyncio.gather(*(send_requests(first) for first in range(CONCURRENCY)))
    return REQUESTS / (time.perf_counter() - started)
