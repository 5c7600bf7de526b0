"""One replica sends at a time: two could send one person's events in the wrong order.

The lead is an exclusive section over all replicas. A replica that dies loses it with its connection
to PostgreSQL; one that freezes loses it when that connection has been idle for too long.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from prometheus_client import Gauge

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import Busy, HeldLock, LockKey, LockScope, exclusive
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import Work, cancel_all

log = structlog.get_logger(__name__)

LOCK = LockKey.of_number(7237)
RETRY_SECONDS = 1.0
"""How often a replica tries to become the leader."""
CONFIRM_SECONDS = 3.0
"""How often the leader makes sure that it still is."""
IDLE_SECONDS = 15
"""A leader that has not confirmed for so long has lost the lead."""

LEADING = Gauge("hogsend_delivery_leading", "1 while this replica sends to PostHog")


class LeaderElection:
    """Runs work whenever this replica leads."""

    def __init__(self, database: Database, work: Work) -> None:
        """Elect in `database`; `work` is cancelled when the lead is lost."""
        self._database = database
        self._work = work
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Stand for election, and lead when elected, until stopped."""
        self._running = asyncio.current_task()
        while True:
            try:
                async with exclusive(
                    self._database,
                    LOCK,
                    scope=LockScope.SESSION,
                    wait_seconds=0,
                    idle_seconds=IDLE_SECONDS,
                    busy="another replica leads",
                    lost="the lead was lost",
                ) as lock:
                    await self._lead(lock)
            except Busy as error:
                log.debug("this replica is not the sender", reason=str(error))
            except (Unavailable, asyncpg.PostgresError) as error:
                # Events wait in their streams. Other parts tell of PostgreSQL.
                FAILURES.labels("leader_election", type(error).__name__).inc()
                log.debug("this replica cannot be the sender", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def stop(self) -> None:
        """End the work, and stand no more."""
        if self._running is not None:
            await cancel_all(self._running)

    async def _lead(self, lock: HeldLock) -> None:
        log.info("this replica is the sender")
        working = asyncio.create_task(self._work())
        LEADING.set(1)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=CONFIRM_SECONDS)
                await lock.confirm()
            working.result()
        except Unavailable as error:
            log.warning("this replica is no longer the sender", reason=str(error))
            raise
        finally:
            LEADING.set(0)
            await cancel_all(working)
