"""The faults that are injected into a running stack. A fault ends by itself, and the stack has to
recover."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import asyncpg
import psutil

from cli.stack.environment import SERVICE_SETTINGS
from tests.chaos.cluster import REPLICAS, Cluster
from tests.chaos.cluster import SERVERS as CLUSTER_SERVERS
from tests.chaos.target import Target
from tests.waiting import eventually

SERVERS = ("nats", "postgres")
FREEZE_SECONDS = (0.5, 4.0)
LOCK_SECONDS = (1.0, 4.0)


Of = TypeVar("Of", bound=Target)


@dataclass(frozen=True)
class Fault(Generic[Of]):
    """A fault that can be injected into a stack of this type."""

    name: str
    inject: Callable[[Of, random.Random], Awaitable[None]]


async def kill(name: str, stack: Target, _random: random.Random) -> None:
    """SIGKILL a process and wait until it has ended. The supervisor starts another one."""
    process = await eventually(lambda: _process(stack, name))
    _signal(process.kill)
    await eventually(lambda: not runs(process))


async def freeze(name: str, stack: Target, rng: random.Random) -> None:
    """SIGSTOP a process and its children for a random time."""
    await freeze_for(name, rng.uniform(*FREEZE_SECONDS), stack)


async def freeze_for(name: str, seconds: float, stack: Target) -> None:
    """SIGSTOP a process and its children for a number of seconds."""
    frozen = await eventually(lambda: _family(stack, name))
    for process in frozen:
        _signal(process.suspend)
    try:
        await asyncio.sleep(seconds)
    finally:
        for process in frozen:
            _signal(process.resume)


async def lock_table(stack: Target, rng: random.Random) -> None:
    """Lock the table of events for a random time."""
    async with _postgres(stack) as connection, connection.transaction():
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(rng.uniform(*LOCK_SECONDS))


async def cut_database(stack: Target, _random: random.Random) -> None:
    """Terminate all connections to PostgreSQL."""
    async with _postgres(stack) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


async def kill_both(stack: Target, rng: random.Random) -> None:
    """SIGKILL NATS and PostgreSQL at once."""
    await asyncio.gather(kill("nats", stack, rng), kill("postgres", stack, rng))


FAULTS: tuple[Fault[Target], ...] = (
    *(Fault(f"kill {name}", partial(kill, name)) for name in (*SERVICE_SETTINGS, *SERVERS)),
    *(Fault(f"freeze {name}", partial(freeze, name)) for name in (*SERVICE_SETTINGS, *SERVERS)),
    Fault("lock the table of events", lock_table),
    Fault("cut connections to PostgreSQL", cut_database),
)


async def cut_proxy(name: str, stack: Cluster, _random: random.Random) -> None:
    """Cut all connections to a server in the middle of a message."""
    await stack.proxies[name].cut()


async def lose_disk(name: str, stack: Cluster, rng: random.Random) -> None:
    """SIGKILL a nats-server, and restart it with an empty directory."""
    await asyncio.to_thread(stack.empty_disk, name)
    await kill(name, stack, rng)


def cluster_faults() -> tuple[Fault[Cluster], ...]:
    """The faults of a cluster, for each of its processes and proxies."""
    services = [
        f"{service}-{number + 1}" for service in SERVICE_SETTINGS for number in range(REPLICAS)
    ]
    servers = [f"nats-{number + 1}" for number in range(CLUSTER_SERVERS)]
    return (
        *(Fault(f"kill {name}", partial(kill, name)) for name in (*services, *servers, "postgres")),
        *(Fault(f"freeze {name}", partial(freeze, name)) for name in (*services, *servers)),
        *(Fault(f"cut off {name}", partial(cut_proxy, name)) for name in (*servers, "postgres")),
        *(Fault(f"lose the disk of {name}", partial(lose_disk, name)) for name in servers),
        Fault("lock the table of events", lock_table),
    )


OUTAGES: tuple[Fault[Target], ...] = (
    Fault("freeze PostgreSQL for 60 s", lambda stack, _: freeze_for("postgres", 60, stack)),
    Fault("freeze NATS for 30 s", lambda stack, _: freeze_for("nats", 30, stack)),
    Fault("freeze NATS for 5 minutes", lambda stack, _: freeze_for("nats", 300, stack)),
    Fault("kill NATS and PostgreSQL", kill_both),
)
"""Longer outages, for a long run."""


async def stored_ids(stack: Target) -> list[str]:
    """The id of every stored event."""
    async with _postgres(stack) as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM ingest.events")]


@asynccontextmanager
async def _postgres(stack: Target) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(stack.postgres_url, timeout=20)
    try:
        yield connection
    finally:
        await connection.close()


def _process(stack: Target, name: str) -> psutil.Process | None:
    try:
        return stack.child(name)
    except LookupError:
        return None


def _family(stack: Target, name: str) -> list[psutil.Process]:
    """A process and its children; empty if the process does not run at the moment."""
    process = _process(stack, name)
    try:
        return [process, *process.children(recursive=True)] if process else []
    except psutil.NoSuchProcess:
        return []


def runs(process: psutil.Process) -> bool:
    """Whether a process runs. It may end during the check."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
