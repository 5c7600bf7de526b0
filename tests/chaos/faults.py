"""What is done to a running stack. A fault ends by itself; recovering is the stack's business."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import psutil

from cli.stack.environment import READS
from tests.running_stack import Up

SERVERS = ("nats", "postgres")
FREEZE_SECONDS = (0.5, 4.0)
LOCK_SECONDS = (1.0, 4.0)

_SOCKET = re.compile(r"-h (\S+)")


@dataclass(frozen=True)
class Fault:
    """Something bad."""

    name: str
    strike: Callable[[Up, random.Random], Awaitable[None]]


async def kill(name: str, stack: Up, _chance: random.Random) -> None:
    """SIGKILL one process; the supervisor starts another."""
    stack.child(name).kill()


async def freeze(name: str, stack: Up, chance: random.Random) -> None:
    """SIGSTOP a process and its children for a while."""
    await freeze_for(name, chance.uniform(*FREEZE_SECONDS), stack)


async def freeze_for(name: str, seconds: float, stack: Up) -> None:
    """SIGSTOP a process and its children for so many seconds."""
    process = stack.child(name)
    frozen = [process, *process.children(recursive=True)]
    for one in frozen:
        _signal(one.suspend)
    try:
        await asyncio.sleep(seconds)
    finally:
        for one in frozen:
            _signal(one.resume)


async def lock_table(stack: Up, chance: random.Random) -> None:
    """Hold the table every event goes to."""
    async with _postgres(stack) as connection, connection.transaction():
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(chance.uniform(*LOCK_SECONDS))


async def cut_database(stack: Up, _chance: random.Random) -> None:
    """End every connection to PostgreSQL, whatever it is doing."""
    async with _postgres(stack) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


FAULTS: tuple[Fault, ...] = (
    *(Fault(f"kill {name}", partial(kill, name)) for name in (*READS, *SERVERS)),
    *(Fault(f"freeze {name}", partial(freeze, name)) for name in (*READS, *SERVERS)),
    Fault("lock the table of events", lock_table),
    Fault("cut connections to PostgreSQL", cut_database),
)

OUTAGES: tuple[Fault, ...] = (
    Fault("PostgreSQL away for 60 s", lambda stack, _: freeze_for("postgres", 60, stack)),
    Fault("NATS away for 30 s", lambda stack, _: freeze_for("nats", 30, stack)),
)
"""Longer ones, for a long run."""


async def stored_ids(stack: Up) -> list[str]:
    """Id of every row of events."""
    async with _postgres(stack) as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM ingest.events")]


@asynccontextmanager
async def _postgres(stack: Up) -> AsyncIterator[Any]:
    socket = _SOCKET.search(stack.summary["database"])
    assert socket is not None
    connection = await asyncpg.connect(
        host=socket[1], user="postgres", database="hogsend", timeout=20
    )
    try:
        yield connection
    finally:
        await connection.close()


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
