"""CPU time that each process spends on one webhook, from the request to the row and the event.

Rates depend on the other load of a machine and on its cores. CPU time hardly does, so it is the
figure to compare versions by.
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
HOGSEND_PROCESSES = ("gateway", "ingest", "nats-server", "postgres")
PEER_PROCESSES = ("fastapi_receiver", "jetstream_consumer", "nats-server", "postgres")
PATH = "/v1/webhooks/posthog"
SECRET = "bench-secret"  # noqa: S105 - guards nothing real
MICROSECONDS = 1e6

Seconds = Mapping[str, float]
"""CPU seconds by name of the process."""
Details = dict[str, float]


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Post webhooks to Hogsend and to a peer in turn, each time with an empty database."""
    await streams.reconcile(bus.js, User.INGEST)
    rounds, peers = [], []
    for _ in range(ROUNDS):
        rounds.append(await one_round(hogsend(servers, bus), HOGSEND_PROCESSES))
        peers.append(await one_round(jetstream_receiver(servers), PEER_PROCESSES))
    ratio = median([own.together / peer.together for own, peer in zip(rounds, peers, strict=True)])
    return [
        Figure(
            "CPU of a webhook, all processes / FastAPI + JetStream + a consumer that inserts",
            f"{ratio:.2f}",
            "<= 0.65",
            _details(rounds, HOGSEND_PROCESSES) | _details(peers, PEER_PROCESSES, "peer_"),
        )
    ]


def _details(rounds: Sequence[Round], processes: Sequence[str], prefix: str = "") -> Details:
    costs = {name: median([round.cost[name] for round in rounds]) for name in processes}
    medians = {
        "us_together": median([round.together for round in rounds]),
        **{f"us_{name.replace('-', '_')}": cost for name, cost in costs.items()},
        "answered_per_second": median([round.answered for round in rounds]),
        "stored_per_second": median([round.stored for round in rounds]),
    }
    p99 = {f"{prefix}p99_ms": median([round.p99 for round in rounds])}
    return {f"{prefix}{name}": round(value) for name, value in medians.items()} | p99


class Round:
    """The results of one round."""

    def __init__(self, output: str, spent: Seconds, seconds: float) -> None:
        """Evaluate a round.

        Args:
            output: the output of wrk.
            spent: CPU seconds that each process spent.
            seconds: duration until the last webhook was stored.
        """
        self.webhooks = int(_search(r"(\d+) requests in", output)[0])
        self.cost = {name: cpu / self.webhooks * MICROSECONDS for name, cpu in spent.items()}
        """CPU microseconds a webhook, by process."""
        self.together = sum(self.cost.values())
        self.answered = float(_search(r"Requests/sec:\s+([\d.]+)", output)[0])
        """Responses a second."""
        self.stored = self.webhooks / seconds
        """Stored webhooks a second."""
        p99, unit = _search(r"99%\s+([\d.]+)(us|ms|s)", output)
        self.p99 = float(p99) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
        """99th percentile of the response time, in milliseconds."""


class Setup(NamedTuple):
    """A running receiver of webhooks."""

    url: str
    is_stored: Callable[[], Awaitable[bool]]
    """Whether all accepted webhooks are processed and acknowledged."""
    keyed: bool = False
    """Whether it recognizes a repeated webhook by the header `idempotency-key`."""


async def one_round(setup: AbstractAsyncContextManager[Setup], processes: Sequence[str]) -> Round:
    """Post webhooks for `ROUND_SECONDS`, and wait until all of them are stored."""
    async with setup as receiver:
        await warm(receiver)
        before = _spent(processes)
        started = time.perf_counter()
        output = await _post(receiver)
        await eventually(receiver.is_stored, 300)
        seconds = time.perf_counter() - started
        after = _spent(processes)
    return Round(output, {name: after[name] - before[name] for name in processes}, seconds)


@asynccontextmanager
async def hogsend(servers: Servers, bus: Connection) -> AsyncIterator[Setup]:
    """Run a gateway and ingest with an empty database."""
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
    """Run the peer: FastAPI publishes webhooks to JetStream, and a consumer inserts them."""
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
        # The same retention as Hogsend's stream: acknowledged messages are deleted.
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
    """Wait until a first webhook is stored, so that the start is not measured."""
    event = {"uuid": "warm", "event": "warm", "distinct_id": "u", "properties": {}}
    webhook = {"event": {**event, "timestamp": "2026-06-01T12:00:00Z"}, "person": {}}

    async def accepted() -> bool:
        try:
            response = await http.post(
                receiver.url, json=webhook, headers={"x-posthog-webhook-secret": SECRET}
            )
        except httpx.HTTPError:
            return False
        return response.is_success

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
    """CPU time of this run's servers and services. PostgreSQL includes all of its backends."""
    return {name: cpu_seconds(name) for name in processes}


def _search(pattern: str, output: str) -> Sequence[str]:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(output)
    return match.groups()
