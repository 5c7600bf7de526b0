"""Asks the provisioner what may take long, and fails as soon as it no longer runs.

Its deadlines are PostHog's: 20 s for a diagnosis, a minute for a run. A request should not wait
that long for a process that has crashed or hangs.
"""

from __future__ import annotations

import asyncio

from hogsend.contract.base import Empty
from hogsend.contract.errors import Unavailable
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.transport.connection import Connection

PROBE_SECONDS = 2.0
"""How long the provisioner may take to answer that it is running."""
WATCH_SECONDS = 2.0
"""How often it is asked meanwhile."""


async def ask(
    bus: Connection,
    endpoint: Endpoint[Request, Reply],
    message: Request,
    *,
    deadline: float | None = None,
) -> Reply:
    """Ask, and look whether it still runs.

    Raises:
        Unavailable: the provisioner does not run, hangs, or stopped before it answered.
        HogsendError: as `Connection.request`.
    """
    run = asyncio.create_task(bus.request(endpoint, message, deadline=deadline))
    try:
        while not (await asyncio.wait({run}, timeout=WATCH_SECONDS))[0]:
            try:
                await _look_twice(bus)
            except Unavailable:
                # One that stops answers what is under way, and nothing else.
                if not run.done():
                    raise
        return run.result()
    finally:
        run.cancel()


async def _look_twice(bus: Connection) -> None:
    """Look whether it runs; busy with what it was asked, it may miss one deadline."""
    try:
        await probe(bus)
    except Unavailable:
        await probe(bus)


async def probe(bus: Connection) -> None:
    """Look whether it runs.

    Raises:
        Unavailable: it does not, or hangs.
    """
    await bus.request(PROVISIONER_HEALTH, Empty(), deadline=PROBE_SECONDS)
