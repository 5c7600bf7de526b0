"""Rate of token requests that the service `credentials` serves, compared with an echo service."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.figures import Figure, median
from benchmarks.processes import ADMIN_KEY, credentials, gateway, process
from benchmarks.propagation import GRANT
from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenRequest
from hogsend.contract.errors import Unavailable
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.servers import Servers
from tests.waiting import eventually

REQUESTS = 4000
CONCURRENCY = 32
ROUNDS = 3


async def measure(servers: Servers) -> list[Figure]:
    """Measure the real service and the echo in turn, several rounds."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(servers.fresh_database())
        bus = Connection(User.PROVISIONER, servers.nats_url(User.PROVISIONER))
        await bus.open()
        stack.push_async_callback(bus.close)
        async with credentials(servers, url):
            await _store(servers)
        real, echo = [], []
        for _ in range(ROUNDS):
            async with credentials(servers, url):
                real.append(await _rate(bus))
            async with process(
                "-m", "benchmarks.bearer_echo", NATS_URL=servers.nats_url(User.CREDENTIALS)
            ):
                echo.append(await _rate(bus))
    ratio = median([rate / base for rate, base in zip(real, echo, strict=True)])
    return [
        Figure(
            "bearers resolved / requests echoed",
            f"{ratio:.2f}",
            ">= 0.40",
            details={
                "bearers_per_second": round(median(real)),
                "echoes_per_second": round(median(echo)),
                "asking": CONCURRENCY,
            },
        )
    ]


async def _store(servers: Servers) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(
            servers, Path(directory), ["-m", "cli.main", "serve", "gateway"]
        ) as http:

            async def stored() -> bool:
                response = await http.put(
                    "/v1/admin/provider-credentials/posthog",
                    json={"payload": GRANT},
                    headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                )
                return response.is_success

            await eventually(stored, 30)


async def _rate(bus: Connection) -> float:
    request = TokenRequest(provider_id="posthog")

    async def replies() -> bool:
        try:
            return (await bus.request(CREDENTIALS_TOKEN, request)).source == "oauth"
        except Unavailable:
            return False

    await eventually(replies, 30)

    async def send_requests() -> None:
        for _ in range(REQUESTS // CONCURRENCY):
            await bus.request(CREDENTIALS_TOKEN, request)

    await send_requests()
    started = time.perf_counter()
    await asyncio.gather(*(send_requests() for _ in range(CONCURRENCY)))
    return REQUESTS / (time.perf_counter() - started)
