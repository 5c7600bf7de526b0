"""CPU time that each process spends on one webhook, from the request to the row and the event.

Rates depend on what else a machine does and on how many cores it has; what an event costs hardly
does. So this is the figure to compare versions by.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy

from benchmarks.figures import Figure, median
from benchmarks.processes import START_SECONDS, cpu_seconds, gateway, ingest, process
from cli.stack import nats as nats_server
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

ROUND_SECONDS = 5
PEOPLE = 4_000
CONNECTIONS = 32
ROUNDS = 3
SCRIPT = Path(__file__).with_name("cost.lua")
OURS = ("gateway", "ingest", "nats-server", "postgres")
PEER = ("fastapi_receiver", "jetstream_consumer", "nats-server", "postgres")
PATH = "/v1/webhooks/posthog"
SECRET = "bench-secret"  # noqa: S105 - guards nothing real
MICROSECONDS = 1e6

Seconds = Mapping[str, float]
"""CPU seconds by process."""
Details = dict[str, float]


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Post webhooks to Hogsend and to its peer in turn, each time to an empty database."""
    await streams.reconcile(bus.js, User.INGEST)
    ours, peers = [], []
    for _ in range(ROUNDS):
        ours.append(await one_round(hogsend(servers, bus), OURS))
        peers.append(await one_round(jetstream_receiver(servers), PEER))
    ratio = median([one.together / peer.together for one, peer in zip(ours, peers, strict=True)])
    return [
        Figure(
            "CPU of a webhook, all processes / FastAPI + JetStream + a consumer that inserts",
            f"{ratio:.2f}",
            "<= 0.65",
            _described(ours, OURS) | _described(peers, PEER, "peer_"),
        )
    ]


def _described(rounds: Sequence[Round], processes: Sequence[str], prefix: str = "") -> Details:
    costs = {name: median([one.cost[name] for one in rounds]) for name in processes}
    found = {
        "us_together": median([one.together for one in rounds]),
        **{f"us_{name.replace('-', '_')}": cost for name, cost in costs.items()},
        "answered_per_second": median([one.answered for one in rounds]),
        "stored_per_second": median([one.stored for one in rounds]),
    }
    p99 = {f"{prefix}p99_ms": median([one.p99 for one in rounds])}
    return {f"{prefix}{name}": round(value) for name, value in found.items()} | p99


class Round:
    """What one round found."""

    def __init__(self, output: str, spent: Seconds, seconds: float) -> None:
        self.webhooks = int(_found(r"(\d+) requests in", output)[0])
        self.cost = {name: each / self.webhooks * MICROSECONDS for name, each in spent.items()}
        """CPU microseconds a webhook, by process."""
        self.together = sum(self.cost.values())
        self.answered = float(_found(r"Requests/sec:\s+([\d.]+)", output)[0])
        self.stored = self.webhooks / seconds
        slowest, unit = _found(r"99%\s+([\d.]+)(us|ms|s)", output)
        self.p99 = float(slowest) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


class Setup(NamedTuple):
    """A receiver of webhooks that runs."""

    url: str
    is_stored: Callable[[], Awaitable[bool]]
    """Whether everything that was accepted has been dealt with and acknowledged."""
    keyed: bool = False
    """Whether it knows a repeated webhook by the header `idempotency-key`."""


async def one_round(setup: AbstractAsyncContextManager[Setup], processes: Sequence[str]) -> Round:
    """Post for `ROUND_SECONDS`, and wait until all of it is stored."""
    async with setup as receiver:
        await warm(receiver)
        before = _spent(processes)
        begun = time.perf_counter()
        output = await _post(receiver)
        await eventually(receiver.is_stored, 300)
        seconds = time.perf_counter() - begun
        after = _spent(processes)
    return Round(output, {name: after[name] - before[name] for name in processes}, seconds)


@asynccontextmanager
async def hogsend(servers: Servers, bus: Connection) -> AsyncIterator[Setup]:
    """A gateway and ingest, on an empty database."""
    await bus.js.purge_stream(StreamName.WEBHOOKS)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            servers.fresh_database() as database,
            ingest(servers, database),
            gateway(
                servers,
                Path(directory),
                ["-m", "cli.main", "serve", "gateway"],
                POSTHOG_WEBHOOK_SECRET=SECRET,
            ) as http,
        ):
            yield Setup(f"{str(http.base_url).rstrip('/')}{PATH}", lambda: _is_empty(bus.js))


@asynccontextmanager
async def jetstream_receiver(servers: Servers) -> AsyncIterator[Setup]:
    """What most would write: FastAPI publishes to JetStream, and a consumer inserts."""
    port, bus_port = free_port(), free_port()
    bus_url = f"nats://127.0.0.1:{bus_port}"
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{bus_port}\n"
            f"jetstream {{ store_dir: {directory}, sync_interval: {nats_server.SYNC_INTERVAL} }}\n"
        )
        server = await asyncio.create_subprocess_exec(
            *nats_server.command(config), stderr=subprocess.DEVNULL
        )
        bus = Connection("benchmark", bus_url)
        await bus.open()
        js = bus.js
        # As ours is kept: what is acknowledged is deleted.
        await js.add_stream(
            name="WEBHOOKS", subjects=["webhooks.>"], retention=RetentionPolicy.WORK_QUEUE
        )
        try:
            async with (
                servers.fresh_database() as database,
                process(
                    *("-m", "benchmarks.peers.jetstream_consumer"),
                    NATS_URL=bus_url,
                    DATABASE_URL=database,
                ),
                process(
                    *("-m", "benchmarks.peers.fastapi_receiver"),
                    NATS_URL=bus_url,
                    PORT=str(port),
                    SECRET=SECRET,
                ),
            ):
                yield Setup(f"http://127.0.0.1:{port}{PATH}", lambda: _is_empty(js))
        finally:
            await bus.close()
            server.terminate()
            await server.wait()


async def warm(receiver: Setup) -> None:
    """Wait until a webhook has gone all the way: starting is measured elsewhere."""
    event = {"uuid": "warm", "event": "warm", "distinct_id": "u", "properties": {}}
    webhook = {"event": {**event, "timestamp": "2026-06-01T12:00:00Z"}, "person": {}}

    async def accepted() -> bool:
        try:
            answer = await http.post(
                receiver.url, json=webhook, headers={"x-posthog-webhook-secret": SECRET}
            )
        except httpx.HTTPError:
            return False
        return answer.is_success

    async with httpx.AsyncClient() as http:
        await eventually(accepted, START_SECONDS)
    await eventually(receiver.is_stored, START_SECONDS)


async def _is_empty(js: JetStreamContext) -> bool:
    return (await js.stream_info(StreamName.WEBHOOKS)).state.messages == 0


async def _post(receiver: Setup) -> str:
    running = await asyncio.create_subprocess_exec(
        *(
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{ROUND_SECONDS}s",
            "--latency",
            "-s",
            str(SCRIPT),
            receiver.url,
        ),
        env={**os.environ, "PEOPLE": str(PEOPLE), "KEYED": "1" if receiver.keyed else ""},
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await running.communicate())[0].decode()
    if "Non-2xx" in output or running.returncode:
        raise RuntimeError(output)
    return output


def _spent(processes: Sequence[str]) -> Seconds:
    """CPU time of this run's servers and services; PostgreSQL's is that of all its backends."""
    return {name: cpu_seconds(name) for name in processes}


def _found(pattern: str, output: str) -> Sequence[str]:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(output)
    return found.groups()
