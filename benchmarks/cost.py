"""CPU time that each process spends on one webhook, from the request to the row and the event.

Rates depend on what else a machine does and on how many cores it has; what an event costs hardly
does. So this is the figure to compare versions by.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.figures import Figure, median
from benchmarks.processes import gateway, process, service_name
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.servers import Servers
from tests.waiting import eventually

ROUND_SECONDS = 15
PEOPLE = 4_000
CONNECTIONS = 32
ROUNDS = 3
SCRIPT = Path(__file__).with_name("cost.lua")
PROCESSES = ("gateway", "ingest", "nats-server", "postgres")
MICROSECONDS = 1e6

Seconds = Mapping[str, float]
"""CPU seconds by process."""


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Post the webhooks several times, each to an empty database."""
    await streams.reconcile(bus.js, User.INGEST)
    rounds = [await _round(servers, bus) for _ in range(ROUNDS)]
    costs = {name: median([one.cost[name] for one in rounds]) for name in PROCESSES}
    return [
        Figure(
            "CPU microseconds a webhook, all processes together",
            f"{median([sum(one.cost.values()) for one in rounds]):.0f}",
            details={
                **{name.replace("-", "_"): round(cost) for name, cost in costs.items()},
                "webhooks": min(one.webhooks for one in rounds),
                "answered_per_second": round(median([one.answered for one in rounds])),
                "stored_per_second": round(median([one.stored for one in rounds])),
                "p99_ms": median([one.p99 for one in rounds]),
            },
        )
    ]


class _Round:
    """What one round found."""

    def __init__(self, output: str, spent: Seconds, seconds: float) -> None:
        self.webhooks = int(_found(r"(\d+) requests in", output)[0])
        self.cost = {name: spent[name] / self.webhooks * MICROSECONDS for name in PROCESSES}
        """CPU microseconds a webhook, by process."""
        self.answered = float(_found(r"Requests/sec:\s+([\d.]+)", output)[0])
        self.stored = self.webhooks / seconds
        slowest, unit = _found(r"99%\s+([\d.]+)(us|ms|s)", output)
        self.p99 = float(slowest) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


async def _round(servers: Servers, bus: Connection) -> _Round:
    await bus.js.purge_stream(StreamName.WEBHOOKS)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            servers.fresh_database() as database,
            process(
                *("-m", "cli.main", "serve", "ingest"),
                NATS_URL=servers.nats_url(User.INGEST),
                DATABASE_URL=database,
            ),
            gateway(
                servers,
                Path(directory),
                ["-m", "cli.main", "serve", "gateway"],
                POSTHOG_WEBHOOK_SECRET="bench-secret",  # noqa: S106 - guards nothing real
            ) as http,
        ):
            await _warm(http, bus)
            before = _spent()
            begun = time.perf_counter()
            output = await _post(str(http.base_url.join("/v1/webhooks/posthog")))
            await eventually(lambda: _is_stored(bus), 300)
            seconds = time.perf_counter() - begun
            after = _spent()
    return _Round(output, {name: after[name] - before[name] for name in PROCESSES}, seconds)


async def _warm(http: httpx.AsyncClient, bus: Connection) -> None:
    """Wait until a webhook has gone all the way: starting is measured elsewhere."""
    answer = await http.post(
        "/v1/webhooks/posthog",
        json={"event": {"event": "warm", "distinct_id": "u_warm"}},
        headers={"x-posthog-webhook-secret": "bench-secret"},
    )
    answer.raise_for_status()
    await eventually(lambda: _is_stored(bus), 30)


async def _is_stored(bus: Connection) -> bool:
    """Whether ingest has stored, announced and acknowledged everything."""
    return (await bus.js.stream_info(StreamName.WEBHOOKS)).state.messages == 0


async def _post(url: str) -> str:
    running = await asyncio.create_subprocess_exec(
        *(
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{ROUND_SECONDS}s",
            "--latency",
            "-s",
            str(SCRIPT),
            url,
        ),
        env={**os.environ, "PEOPLE": str(PEOPLE)},
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await running.communicate())[0].decode()
    if "Non-2xx" in output or running.returncode:
        raise RuntimeError(output)
    return output


def _spent() -> Seconds:
    """CPU time of this run's servers and services; PostgreSQL's is that of all its backends."""
    spent = dict.fromkeys(PROCESSES, 0.0)
    for child in psutil.Process().children():
        name = service_name(child)
        if name in spent:
            times = [one.cpu_times() for one in [child, *child.children(recursive=True)]]
            # A backend that has ended counts with its parent.
            ended = times[0].children_user + times[0].children_system
            spent[name] += ended + sum(one.user + one.system for one in times)
    return spent


def _found(pattern: str, output: str) -> Sequence[str]:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(output)
    return found.groups()
