"""Elects the one replica that sends: two could send one person's events in the wrong order.

The leader holds an advisory lock in PostgreSQL. A leader that dies loses the lock with its
connection; a leader that freezes loses it when PostgreSQL ends the idle connection.
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
"""How often the leader checks that it still holds the lock."""
IDLE_SECONDS = 15
"""Idle seconds after which PostgreSQL ends the leader's connection, and with it the lead."""

LEADING = Gauge("hogsend_delivery_leading", "1 while this replica sends to PostHog")


class LeaderElection:
    """Runs work while this replica leads."""

    def __init__(self, database: Database, work: Work) -> None:
        """Lock in `database`; `work` is cancelled when the lead is lost."""
        self._database = database
        self._work = work
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Try to become the leader, and run the work while leading, until stopped."""
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
                # Events wait in their streams. Health and other parts report that PostgreSQL fails.
                FAILURES.labels("leader_election", type(error).__name__).inc()
                log.debug("this replica cannot be the sender", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def stop(self) -> None:
        """Cancel the work, and take no further part in the election."""
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
