"""Rate of events delivered to the sandbox, by Hogsend and by the published `posthog` package."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psutil

import hogsend
from benchmarks.figures import Figure, median
from benchmarks.processes import ROOT, environment, process
from hogsend.contract.errors import Unavailable
from hogsend.contract.users import User
from sandbox.options import Options
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

EVENTS = 20_000
PEOPLE = 500
ROUNDS = 3
MIB = 1024 * 1024


async def measure(servers: Servers) -> list[Figure]:
    """Send the same events in turn: with PostHog's own package, and through the bus."""
    rates, package_rates, memory, package_memory = [], [], [], []
    for _ in range(ROUNDS):
        async with _sandbox() as posthog:
            rate, resident = await _rate(posthog, "benchmarks.sdk_sender", *_sdk(posthog))
            package_rates.append(rate)
            package_memory.append(resident)
        async with (
            _sandbox() as posthog,
            servers.fresh_database() as database,
            process(
                *("-m", "cli.main", "serve", "analytics"),
                NATS_URL=servers.nats_url(User.ANALYTICS),
                DATABASE_URL=database,
                POSTHOG_API_KEY=Options().project_key,
                POSTHOG_HOST=str(posthog.base_url),
            ) as analytics,
        ):
            app_url = servers.nats_url(User.APP)
            await _wait_until_delivering(app_url, posthog)
            rate, _ = await _rate(posthog, "benchmarks.bus_sender", NATS_URL=app_url)
            rates.append(rate)
            memory.append(psutil.Process(analytics.pid).memory_info().rss / MIB)
    ratio = median([rate / base for rate, base in zip(rates, package_rates, strict=True)])
    return [
        Figure(
            "events delivered to PostHog / by the `posthog` package",
            f"{ratio:.2f}",
            ">= 1.50",
            {
                "events_per_second": round(median(rates)),
                "package_events_per_second": round(median(package_rates)),
                "analytics_mib": round(median(memory)),
                "process_with_package_mib": round(median(package_memory)),
            },
        )
    ]


def _sdk(posthog: httpx.AsyncClient) -> tuple[str, str]:
    return str(posthog.base_url), Options().project_key


@asynccontextmanager
async def _sandbox() -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    async with (
        process("-m", "cli.main", "sandbox", "--port", str(port)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        await eventually(lambda: _captured(http, 0), 30)
        yield http


async def _rate(
    posthog: httpx.AsyncClient, sender: str, *arguments: str, **variables: str
) -> tuple[float, float]:
    """Events a second, until the sandbox has the last one, and memory of the sender in MiB."""
    command = ("-m", sender, *arguments, str(EVENTS), str(PEOPLE))
    sending = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(**variables),
        cwd=ROOT,
    )
    assert sending.stdin is not None
    assert sending.stdout is not None
    await sending.stdout.readline()
    before = await _count(posthog)
    started = time.perf_counter()
    sending.stdin.write(b"go\n")
    await eventually(lambda: _captured(posthog, before + EVENTS), 120)
    elapsed = time.perf_counter() - started
    resident = psutil.Process(sending.pid).memory_info().rss / MIB
    sending.stdin.close()
    await sending.wait()
    return EVENTS / elapsed, resident


async def _wait_until_delivering(app_url: str, posthog: httpx.AsyncClient) -> None:
    """Wait until analytics delivers events, so that its start is not measured."""
    async with hogsend.connect(app_url) as bus:

        async def queued() -> bool:
            try:
                await bus.capture("warm", "u_0")
            except Unavailable:
                return False
            return True

        await eventually(queued, 30)
    await eventually(lambda: _captured(posthog, 1), 30)


async def _captured(http: httpx.AsyncClient, expected: int) -> bool:
    try:
        return await _count(http) >= expected
    except (httpx.HTTPError, ValueError):
        return False


async def _count(http: httpx.AsyncClient) -> int:
    return int((await http.get("/_sandbox/captured")).json()["events"])
