"""Services in processes of their own, on the run's servers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from cli.stack.settings import ALL_SETTINGS
from hogsend.contract.users import User
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
ADMIN_KEY = "k-bench"
START_SECONDS = 120
"""Longest time a service may take to start, on a machine that does much else."""


def environment(**given: str) -> dict[str, str]:
    """Take this environment without Hogsend's settings, and `given`."""
    known = {name for group in ALL_SETTINGS for name in group.environment_names()}
    clean = {name: value for name, value in os.environ.items() if name not in known}
    return {**clean, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", "LOG_LEVEL": "warning", **given}


def service_name(process: psutil.Process) -> str:
    """What a process is: the service it serves, the module it runs, or else its program."""
    line = process.cmdline()
    if len(line) > 1 and line[-2] == "serve":
        return line[-1]
    if len(line) > 1 and line[-2] == "-m":
        return line[-1].rpartition(".")[2]
    return Path(line[0]).name if line else ""


def cpu_seconds(name: str) -> float:
    """CPU time of those of this run's processes that are `name`, with their children's."""
    while True:
        try:
            return sum(
                _spent(one) for one in psutil.Process().children() if service_name(one) == name
            )
        except psutil.NoSuchProcess:
            # One ended while it was read; now its parent has its time.
            continue


def _spent(process: psutil.Process) -> float:
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    # A backend of PostgreSQL that has ended counts with its parent.
    ended = times[0].children_user + times[0].children_system
    return ended + sum(one.user + one.system for one in times)


@asynccontextmanager
async def process(*command: str, **given: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python program until the block ends."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment(**given), cwd=ROOT
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


@asynccontextmanager
async def gateway(
    servers: Servers, directory: Path, program: Sequence[str], **given: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that is ready for webhooks."""
    port = free_port()
    variables = {
        "NATS_URL": servers.nats_url(User.GATEWAY),
        "GATEWAY_PORT": str(port),
        "SPOOL_DIR": str(directory / "spool"),
        "ADMIN_API_KEY": ADMIN_KEY,
        "ADMIN_RATE_LIMIT": "1000000",
        **given,
    }
    async with (
        process(*program, **variables),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        await eventually(lambda: _ready(http), START_SECONDS)
        yield http


@asynccontextmanager
async def credentials(servers: Servers, database_url: str, **given: str) -> AsyncIterator[None]:
    """A credentials service."""
    async with process(
        "-m",
        "cli.main",
        "serve",
        "credentials",
        NATS_URL=servers.nats_url(User.CREDENTIALS),
        DATABASE_URL=database_url,
        BETTER_AUTH_SECRET="bench",  # noqa: S106 - seals nothing real
        **given,
    ):
        yield


@asynccontextmanager
async def ingest(servers: Servers, database_url: str) -> AsyncIterator[None]:
    """An ingest service, which makes the consumers of subscribers."""
    address = servers.nats_url(User.INGEST)
    variables = {"NATS_URL": address, "DATABASE_URL": database_url}
    async with process("-m", "cli.main", "serve", "ingest", **variables):
        yield


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        ready: dict[str, str] = (await http.get("/readyz")).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(ready["ready"] and ready["bus"] == "up")
