"""Acknowledged publishes a second, by JetStream's sync interval, and with three replicas."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nats.js import JetStreamContext
from nats.js.api import StorageType

from benchmarks.figures import Figure, median
from cli.stack import nats as nats_server
from hogsend.contract.accounts import OWN
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from tests.ports import free_port
from tests.waiting import eventually

ROUNDS = 5
ROUND_SECONDS = 1.5
IN_FLIGHT = 64
BODY = b"x" * 1024
SUBJECT = "hogsend.webhooks.bench"
"""A subject that the operator may publish on. These servers have no other stream for it."""
PASSWORDS = dict.fromkeys(User, "password")
NODES = 3


async def measure() -> list[Figure]:
    """Publish to four setups in turn, so that other load of the machine affects all of them."""
    async with AsyncExitStack() as stack:
        setups = {
            interval: await stack.enter_async_context(_single(interval))
            for interval in ("2m", nats_server.SYNC_INTERVAL, "always")
        }
        setups["three replicas"] = await stack.enter_async_context(_cluster())
        rates: dict[str, list[float]] = {name: [] for name in setups}
        for _ in range(ROUNDS):
            for name, js in setups.items():
                rates[name].append(await _publish(js))
    medians = {name: median(rate) for name, rate in rates.items()}
    base = medians["2m"]
    ratios = (f"{name} {rate / base:.2f}" for name, rate in medians.items() if name != "2m")
    return [
        Figure(
            "acknowledged publishes, by sync interval / at nats-server's default of 2m",
            ", ".join(ratios),
            details={
                f"{name.replace(' ', '_')}_per_second": round(rate)
                for name, rate in medians.items()
            },
        )
    ]


async def _publish(js: JetStreamContext) -> float:
    deadline = time.perf_counter() + ROUND_SECONDS
    published = 0

    async def worker() -> None:
        nonlocal published
        while time.perf_counter() < deadline:
            await js.publish(SUBJECT, BODY)
            published += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return published / (time.perf_counter() - started)


@asynccontextmanager
async def _single(interval: str) -> AsyncIterator[JetStreamContext]:
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        config = _config(Path(directory), "one", port, interval)
        async with _running([config]), _stream(port, 1) as js:
            yield js


@asynccontextmanager
async def _cluster() -> AsyncIterator[JetStreamContext]:
    with tempfile.TemporaryDirectory() as directory:
        ports = [(free_port(), free_port()) for _ in range(NODES)]
        configs = []
        for number, (port, route) in enumerate(ports):
            config = _config(Path(directory), f"n{number}", port, nats_server.CLUSTER_SYNC_INTERVAL)
            settings = json.loads(config.read_text())
            settings["cluster"] = {
                "name": "bench",
                "listen": f"127.0.0.1:{route}",
                "routes": [f"nats-route://127.0.0.1:{other}" for _, other in ports],
            }
            config.write_text(json.dumps(settings))
            configs.append(config)
        async with _running(configs), _stream(ports[0][0], NODES) as js:
            yield js


def _config(directory: Path, name: str, port: int, interval: str) -> Path:
    config = directory / f"{name}.conf"
    nats_server.write_config(config, port=port, store=directory / name, passwords=PASSWORDS)
    settings = json.loads(config.read_text())
    settings["jetstream"]["sync_interval"] = interval
    settings["server_name"] = name
    # No account limit: in a cluster it would count every replica.
    settings["accounts"][OWN]["jetstream"] = "enabled"
    config.write_text(json.dumps(settings))
    return config


@asynccontextmanager
async def _running(configs: list[Path]) -> AsyncIterator[None]:
    processes = [
        subprocess.Popen(nats_server.command(config), stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        for config in configs
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


@asynccontextmanager
async def _stream(port: int, replicas: int) -> AsyncIterator[JetStreamContext]:
    bus = Connection(User.OPERATOR, nats_server.url(User.OPERATOR, "password", port))
    await bus.open()

    async def created() -> bool:
        try:
            await bus.js.add_stream(
                name="BENCH",
                subjects=[SUBJECT],
                storage=StorageType.FILE,
                num_replicas=replicas,
            )
        except UNREACHABLE:
            return False
        return True

    try:
        await eventually(created, 60)
        yield bus.js
    finally:
        await bus.close()
