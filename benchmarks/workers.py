"""Rate and CPU time of webhooks in a gateway with two workers, compared with a single process.

The rate is only meaningful with enough free cores: wrk and nats-server use one, and each worker
most of another. The CPU time of a webhook shows on any machine whether two workers slow each other
down.
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil

from benchmarks.figures import Figure, median
from benchmarks.processes import gateway
from benchmarks.webhooks import CONNECTIONS, ROUND_SECONDS, wrk
from hogsend.contract import streams as stream_declarations
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.servers import Servers
from tests.waiting import eventually

ROUNDS = 3
WORKERS = (1, 2)
FREE_CORES = 4
"""With fewer cores, two workers, nats-server and wrk compete for them."""


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Measure the two gateways in turn, so that other load of the machine affects both."""
    await streams.reconcile(bus.js, User.INGEST)
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    costs: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    async with AsyncExitStack() as stack:
        gateways = {}
        for workers in WORKERS:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            gateways[workers] = await stack.enter_async_context(
                gateway(
                    servers,
                    directory,
                    ["-m", "services", "serve", "gateway"],
                    GATEWAY_WORKERS=str(workers),
                    POSTHOG_WEBHOOK_SECRET="bench-secret",  # noqa: S106 - guards nothing real
                )
            )
            await _all_serve(gateways[workers], workers)
        for _ in range(ROUNDS):
            for workers, http in gateways.items():
                before = _spent(http)
                # The same number of connections for each worker: with fewer, fewer webhooks are
                # published together, which costs more CPU.
                url = f"{http.base_url}/v1/webhooks/posthog"
                rate, _ = await wrk(url, CONNECTIONS * workers)
                rates[workers].append(rate)
                costs[workers].append((_spent(http) - before) / (rate * ROUND_SECONDS) * 1e6)
                await bus.js.purge_stream(stream_declarations.StreamName.WEBHOOKS)
    one, two = (median(rates[workers]) for workers in WORKERS)
    cores = psutil.cpu_count() or 1
    free = cores >= FREE_CORES
    return [
        Figure(
            "what a second worker answers / what the first does"
            + ("" if free else f" (on {cores} cores, none of them free for it)"),
            f"{(two - one) / one:.2f}",
            ">= 0.70" if free else "",
            {
                "one_worker_per_second": round(one),
                "two_workers_per_second": round(two),
                "one_worker_us_of_cpu_each": round(median(costs[1])),
                "two_workers_us_of_cpu_each": round(median(costs[2])),
                "connections_a_worker": CONNECTIONS,
            },
        )
    ]


async def _all_serve(http: httpx.AsyncClient, workers: int) -> None:
    async def all_up() -> bool:
        health = (await http.get("/v1/health")).json()["services"]["gateway"]
        return int(health.get("workersUp", 1)) == workers

    await eventually(all_up, 30)


def _spent(http: httpx.AsyncClient) -> float:
    """CPU seconds of a gateway's processes so far."""
    processes = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.environ().get("GATEWAY_PORT") == str(http.base_url.port)
    ]
    return sum(sum(process.cpu_times()[:2]) for process in processes)
