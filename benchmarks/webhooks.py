"""Rate of webhooks that the gateway answers, compared with an echo route in the same process."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, median
from benchmarks.processes import gateway
from hogsend.contract import streams as stream_declarations
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.servers import Servers

ROUNDS = 5
ROUND_SECONDS = 3
CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("webhooks.lua")


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Measure the two routes in turn, so that other load of the machine affects both."""
    await streams.reconcile(bus.js, User.INGEST)
    echo, webhooks, p99 = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(
            servers,
            Path(directory),
            ["-m", "benchmarks.gateway_with_echo"],
            POSTHOG_WEBHOOK_SECRET="bench-secret",  # noqa: S106 - guards nothing real
        ) as http:
            for _ in range(ROUNDS):
                echo.append((await wrk(f"{http.base_url}/echo"))[0])
                rate, slowest = await wrk(f"{http.base_url}/v1/webhooks/posthog")
                webhooks.append(rate)
                p99.append(slowest)
                await bus.js.purge_stream(stream_declarations.StreamName.WEBHOOKS)
    ratios = [webhook / base for webhook, base in zip(webhooks, echo, strict=True)]
    return [
        Figure(
            "webhooks answered / echoes answered, same process",
            f"{median(ratios):.2f}",
            ">= 0.90",
            {
                "webhooks_per_second": round(median(webhooks)),
                "echoes_per_second": round(median(echo)),
                "p99_ms": median(p99),
                "connections": CONNECTIONS,
            },
        )
    ]


async def wrk(url: str, connections: int = CONNECTIONS) -> tuple[float, float]:
    """Post for `ROUND_SECONDS`; returns responses a second, and the 99th percentile in ms."""
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{connections}", f"-d{ROUND_SECONDS}s", "--latency"),
        *("-s", str(SCRIPT), url.replace("//v1", "/v1").replace("//echo", "/echo")),
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    if "Non-2xx" in output or process.returncode:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if rate is None or slowest is None:
        raise RuntimeError(output)
    return float(rate[1]), float(slowest[1]) * {"us": 0.001, "ms": 1, "s": 1000}[slowest[2]]
