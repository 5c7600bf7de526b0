"""Bearers resolved by the credentials service, beside requests that are echoed."""

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
ASKING = 32
ROUNDS = 3


async def measure(servers: Servers) -> list[Figure]:
    """Ask in turns: the real service, then the echo, several times over."""
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
    ratio = median([one / other for one, other in zip(real, echo, strict=True)])
    return [
        Figure(
            "bearers resolved / requests echoed",
            f"{ratio:.2f}",
            ">= 0.40",
            details={
                "bearers_per_second": round(median(real)),
                "echoes_per_second": round(median(echo)),
                "asking": ASKING,
            },
        )
    ]


async def _store(servers: Servers) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(
            servers, Path(directory), ["-m", "cli.main", "serve", "gateway"]
        ) as http:

            async def stored() -> bool:
                answer = await http.put(
                    "/v1/admin/provider-credentials/posthog",
                    json={"payload": GRANT},
                    headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                )
                return answer.is_success

            await eventually(stored, 30)


async def _rate(bus: Connection) -> float:
    request = TokenRequest(provider_id="posthog")

    async def answered() -> bool:
        try:
            return (await bus.request(CREDENTIALS_TOKEN, request)).source == "oauth"
        except Unavailable:
            return False

    await eventually(answered, 30)

    async def ask() -> None:
        for _ in range(REQUESTS // ASKING):
            await bus.request(CREDENTIALS_TOKEN, request)

    await ask()
    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(ASKING)))
    return REQUESTS / (time.perf_counter() - started)
