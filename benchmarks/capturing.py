"""Events delivered to the sandbox by us and by the published `posthog` package, in turns."""

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
    """Send the same events in turns: with PostHog's own package, then through the bus."""
    ours, theirs, memory, package_memory = [], [], [], []
    for _ in range(ROUNDS):
        async with _sandbox() as posthog:
            rate, held = await _rate(posthog, "benchmarks.sdk_sender", *_sdk(posthog))
            theirs.append(rate)
            package_memory.append(held)
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
            member = servers.nats_url(User.APP)
            await _until_it_sends(member, posthog)
            rate, _ = await _rate(posthog, "benchmarks.bus_sender", NATS_URL=member)
            ours.append(rate)
            memory.append(psutil.Process(analytics.pid).memory_info().rss / MIB)
    ratio = median([one / other for one, other in zip(ours, theirs, strict=True)])
    return [
        Figure(
            "events delivered to PostHog / by the `posthog` package",
            f"{ratio:.2f}",
            ">= 1.50",
            {
                "events_per_second": round(median(ours)),
                "package_events_per_second": round(median(theirs)),
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
    posthog: httpx.AsyncClient, sender: str, *arguments: str, **given: str
) -> tuple[float, float]:
    """Events a second, until the sandbox has the last one, and MiB the sender holds."""
    command = ("-m", sender, *arguments, str(EVENTS), str(PEOPLE))
    sending = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(**given),
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
    held = psutil.Process(sending.pid).memory_info().rss / MIB
    sending.stdin.close()
    await sending.wait()
    return EVENTS / elapsed, held


async def _until_it_sends(member: str, posthog: httpx.AsyncClient) -> None:
    """Starting is measured elsewhere, and a program that sends by itself has none of it."""
    async with hogsend.connect(member) as bus:

        async def queued() -> bool:
            try:
                await bus.capture("warm", "u_0")
            except Unavailable:
                return False
            return True

        await eventually(queued, 30)
    await eventually(lambda: _captured(posthog, 1), 30)


async def _captured(http: httpx.AsyncClient, least: int) -> bool:
    try:
        return await _count(http) >= least
    except (httpx.HTTPError, ValueError):
        return False


async def _count(http: httpx.AsyncClient) -> int:
    return int((await http.get("/_sandbox/captured")).json()["events"])
