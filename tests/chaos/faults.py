"""What is done to a running stack. A fault ends by itself; recovering is the stack's business."""

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
    """Something bad that can be done to a stack of this kind."""

    name: str
    strike: Callable[[Of, random.Random], Awaitable[None]]


async def kill(name: str, stack: Target, _chance: random.Random) -> None:
    """SIGKILL one process and wait until it is gone; the supervisor starts another."""
    process = await eventually(lambda: _found(stack, name))
    _signal(process.kill)
    await eventually(lambda: not runs(process))


async def freeze(name: str, stack: Target, chance: random.Random) -> None:
    """SIGSTOP a process and its children for a while."""
    await freeze_for(name, chance.uniform(*FREEZE_SECONDS), stack)


async def freeze_for(name: str, seconds: float, stack: Target) -> None:
    """SIGSTOP a process and its children for so many seconds."""
    frozen = await eventually(lambda: _family(stack, name))
    for one in frozen:
        _signal(one.suspend)
    try:
        await asyncio.sleep(seconds)
    finally:
        for one in frozen:
            _signal(one.resume)


async def lock_table(stack: Target, chance: random.Random) -> None:
    """Hold the table every event goes to."""
    async with _postgres(stack) as connection, connection.transaction():
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(chance.uniform(*LOCK_SECONDS))


async def cut_database(stack: Target, _chance: random.Random) -> None:
    """End every connection to PostgreSQL, whatever it is doing."""
    async with _postgres(stack) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


async def kill_both(stack: Target, chance: random.Random) -> None:
    """SIGKILL both servers at once."""
    await asyncio.gather(kill("nats", stack, chance), kill("postgres", stack, chance))


FAULTS: tuple[Fault[Target], ...] = (
    *(Fault(f"kill {name}", partial(kill, name)) for name in (*SERVICE_SETTINGS, *SERVERS)),
    *(Fault(f"freeze {name}", partial(freeze, name)) for name in (*SERVICE_SETTINGS, *SERVERS)),
    Fault("lock the table of events", lock_table),
    Fault("cut connections to PostgreSQL", cut_database),
)


async def cut_wire(name: str, stack: Cluster, _chance: random.Random) -> None:
    """End every connection to a server in the middle of a message."""
    await stack.wires[name].cut()


async def lose_disk(name: str, stack: Cluster, chance: random.Random) -> None:
    """SIGKILL a nats-server, whose successor finds an empty directory."""
    await asyncio.to_thread(stack.empty_disk, name)
    await kill(name, stack, chance)


def cluster_faults() -> tuple[Fault[Cluster], ...]:
    """Everything above, for each process and each wire of a cluster."""
    services = [
        f"{service}-{number + 1}" for service in SERVICE_SETTINGS for number in range(REPLICAS)
    ]
    servers = [f"nats-{number + 1}" for number in range(CLUSTER_SERVERS)]
    return (
        *(Fault(f"kill {name}", partial(kill, name)) for name in (*services, *servers, "postgres")),
        *(Fault(f"freeze {name}", partial(freeze, name)) for name in (*services, *servers)),
        *(Fault(f"cut off {name}", partial(cut_wire, name)) for name in (*servers, "postgres")),
        *(Fault(f"lose the disk of {name}", partial(lose_disk, name)) for name in servers),
        Fault("lock the table of events", lock_table),
    )


OUTAGES: tuple[Fault[Target], ...] = (
    Fault("PostgreSQL away for 60 s", lambda stack, _: freeze_for("postgres", 60, stack)),
    Fault("NATS away for 30 s", lambda stack, _: freeze_for("nats", 30, stack)),
    Fault("NATS away for 5 minutes", lambda stack, _: freeze_for("nats", 300, stack)),
    Fault("NATS and PostgreSQL killed", kill_both),
)
"""Longer ones, each once in a long run."""


async def stored_ids(stack: Target) -> list[str]:
    """Id of every row of events."""
    async with _postgres(stack) as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM ingest.events")]


@asynccontextmanager
async def _postgres(stack: Target) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(stack.postgres_url, timeout=20)
    try:
        yield connection
    finally:
        await connection.close()


def _found(stack: Target, name: str) -> psutil.Process | None:
    try:
        return stack.child(name)
    except LookupError:
        return None


def _family(stack: Target, name: str) -> list[psutil.Process]:
    """A process and its children; empty when it is not there at the moment."""
    process = _found(stack, name)
    try:
        return [process, *process.children(recursive=True)] if process else []
    except psutil.NoSuchProcess:
        return []


def runs(process: psutil.Process) -> bool:
    """Whether a process runs; one that ends between two looks does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
