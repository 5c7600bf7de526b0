"""Starts services as separate processes, on the servers of the run."""

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
"""Maximum seconds a service may take to start, on a busy machine."""


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process without Hogsend's settings, with the given variables."""
    settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    clean = {name: value for name, value in os.environ.items() if name not in settings}
    return {**clean, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", "LOG_LEVEL": "warning", **variables}


def service_name(process: psutil.Process) -> str:
    """Name of a process: its service, else the module it runs, else its program."""
    line = process.cmdline()
    if len(line) > 1 and line[-2] == "serve":
        return line[-1]
    if len(line) > 1 and line[-2] == "-m":
        return line[-1].rpartition(".")[2]
    return Path(line[0]).name if line else ""


def cpu_seconds(name: str) -> float:
    """CPU time of the run's processes with this name, including their children."""
    while True:
        try:
            return sum(
                _spent(child)
                for child in psutil.Process().children()
                if service_name(child) == name
            )
        except psutil.NoSuchProcess:
            # A process ended meanwhile. Its time is now counted in its parent's: read again.
            continue


def _spent(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    # The time of PostgreSQL's backends that have ended is in their parent's.
    ended = times[0].children_user + times[0].children_system
    return ended + sum(cpu.user + cpu.system for cpu in times)


@asynccontextmanager
async def process(*command: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python program until the block ends."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment(**variables), cwd=ROOT
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


@asynccontextmanager
async def gateway(
    servers: Servers, directory: Path, program: Sequence[str], **variables: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway, and wait until it is ready for webhooks."""
    port = free_port()
    settings = {
        "NATS_URL": servers.nats_url(User.GATEWAY),
        "GATEWAY_PORT": str(port),
        "SPOOL_DIR": str(directory / "spool"),
        "ADMIN_API_KEY": ADMIN_KEY,
        "ADMIN_RATE_LIMIT": "1000000",
        **variables,
    }
    async with (
        process(*program, **settings),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        await eventually(lambda: _ready(http), START_SECONDS)
        yield http


@asynccontextmanager
async def credentials(servers: Servers, database_url: str, **variables: str) -> AsyncIterator[None]:
    """Run the service `credentials`."""
    async with process(
        "-m",
        "cli.main",
        "serve",
        "credentials",
        NATS_URL=servers.nats_url(User.CREDENTIALS),
        DATABASE_URL=database_url,
        BETTER_AUTH_SECRET="bench",  # noqa: S106 - seals nothing real
        **variables,
    ):
        yield


@asynccontextmanager
async def ingest(servers: Servers, database_url: str) -> AsyncIterator[None]:
    """Run the service `ingest`, which also creates the consumers of subscribers."""
    variables = {"NATS_URL": servers.nats_url(User.INGEST), "DATABASE_URL": database_url}
    async with process("-m", "cli.main", "serve", "ingest", **variables):
        yield


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        ready: dict[str, str] = (await http.get("/readyz")).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(ready["ready"] and ready["bus"] == "up")
