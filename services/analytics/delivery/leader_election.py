"""One replica sends at a time, or two would overtake each other with one person's events.

The lead is a session lock in PostgreSQL. A replica that dies loses it with its connection; one that
is frozen loses it when its session has been idle for too long.
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
from hogsend.service.metrics import FAILURES
from hogsend.service.serving import stop

log = structlog.get_logger(__name__)

LOCK = 7237
ASK_SECONDS = 1.0
HEARTBEAT_SECONDS = 3.0
SILENCE_SECONDS = 15
"""A leader that says nothing for so long has lost the lead."""

LEADING = Gauge("hogsend_delivery_leading", "1 while this replica sends to PostHog")


async def lead_forever(database: Database, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` whenever this replica has the lead; it is cancelled when the lead is lost."""
    while True:
        try:
            await _lead_once(database, work)
        except Unavailable:
            # Said by whoever needs the database; delivery waits in JetStream meanwhile.
            pass
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            FAILURES.labels("leader_election", type(error).__name__).inc()
            log.warning("lost the lead in sending", reason=type(error).__name__)
        await asyncio.sleep(ASK_SECONDS)


async def _lead_once(database: Database, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with database.acquire() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return
        await connection.execute(f"SET idle_session_timeout = '{SILENCE_SECONDS}s'")
        log.info("leads in sending")
        working = asyncio.create_task(work())
        LEADING.set(1)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=HEARTBEAT_SECONDS)
                await connection.execute("SELECT 1")
            working.result()
        finally:
            LEADING.set(0)
            await stop(working)
