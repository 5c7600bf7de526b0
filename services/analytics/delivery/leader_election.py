"""One replica sends at a time: two could send one person's events in the wrong order.

The lead is an exclusive section over all replicas. A replica that dies loses it with its connection
to PostgreSQL; one that freezes loses it when that connection has been idle for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import structlog
from prometheus_client import Gauge

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all

log = structlog.get_logger(__name__)

LOCK = LockKey.of_number(7237)
RETRY_SECONDS = 1.0
"""How often a replica tries to become the leader."""
CONFIRM_SECONDS = 3.0
"""How often the leader makes sure that it still is."""
IDLE_SECONDS = 15
"""A leader that has not confirmed for so long has lost the lead."""

LEADING = Gauge("hogsend_delivery_leading", "1 while this replica sends to PostHog")


async def lead_forever(database: Database, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` whenever this replica leads; it is cancelled when the lead is lost."""
    while True:
        try:
            async with exclusive(
                database,
                LOCK,
                scope=LockScope.SESSION,
                wait_seconds=0,
                idle_seconds=IDLE_SECONDS,
                busy="another replica leads",
                lost="the lead was lost",
            ) as lock:
                await _lead(lock, work)
        except (Unavailable, asyncpg.PostgresError) as error:
            # Another replica leads, or PostgreSQL cannot be used, which other parts report. Either
            # way events wait in their streams.
            log.debug("does not lead in sending", reason=str(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _lead(lock: HeldLock, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    log.info("leads in sending")
    working = asyncio.create_task(work())
    LEADING.set(1)
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=CONFIRM_SECONDS)
            await lock.confirm()
        working.result()
    except Unavailable as error:
        FAILURES.labels("leader_election", error.code).inc()
        log.warning("lost the lead in sending", reason=str(error))
        raise
    finally:
        LEADING.set(0)
        await cancel_all(working)
