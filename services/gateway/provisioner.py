"""Sends long requests to the provisioner, and fails as soon as the provisioner no longer runs.

Their timeouts are long because PostHog may be slow: 20 s for a diagnosis, a minute for a run. A
client should not wait that long for a process that has crashed or hangs.
"""

from __future__ import annotations

import asyncio

from hogsend.contract.base import Empty
from hogsend.contract.errors import Unavailable
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.transport.connection import Connection

PROBE_SECONDS = 2.0
"""Timeout of a health probe."""
WATCH_SECONDS = 2.0
"""Interval of the probes while a request is in flight."""


async def request(
    bus: Connection,
    endpoint: Endpoint[Request, Reply],
    message: Request,
    *,
    deadline: float | None = None,
) -> Reply:
    """Send a request, and probe the provisioner while waiting for the reply.

    Raises:
        Unavailable: the provisioner does not run, hangs, or stopped before it replied.
        HogsendError: see `Connection.request`.
    """
    run = asyncio.create_task(bus.request(endpoint, message, deadline=deadline))
    try:
        while not (await asyncio.wait({run}, timeout=WATCH_SECONDS))[0]:
            try:
                await _probe_twice(bus)
            except Unavailable:
                # A provisioner that is stopping replies to requests in flight, but not to probes.
                if not run.done():
                    raise
        return run.result()
    finally:
        run.cancel()


async def _probe_twice(bus: Connection) -> None:
    """Probe, and retry once: a provisioner that is busy with the request may miss one timeout."""
    try:
        await probe(bus)
    except Unavailable:
        await probe(bus)


async def probe(bus: Connection) -> None:
    """Probe whether the provisioner runs.

    Raises:
        Unavailable: it does not run, or hangs.
    """
    await bus.request(PROVISIONER_HEALTH, Empty(), deadline=PROBE_SECONDS)
