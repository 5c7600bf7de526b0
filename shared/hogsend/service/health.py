"""The health of a service's process, as it reports it when the gateway asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hogsend.contract.health import DependencyHealth, SchemaHealth, ServiceHealth
from hogsend.service.bus_health import bus_problems
from hogsend.service.database import Database
from hogsend.service.retry import waiting_for

LOOK_SECONDS = 1.0
"""How long PostgreSQL may take. Shorter than the gateway waits for the whole answer, so that a
frozen PostgreSQL is told apart from a service that does not run."""

_STARTED = time.monotonic()
_Seen = tuple[DependencyHealth, SchemaHealth]


class HealthReporter:
    """Reports the health of this process, its database, and what it cannot go on without."""

    def __init__(
        self,
        service: str,
        database: Database,
        credential_version: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Report on a service.

        Args:
            service: its name.
            database: its schema in PostgreSQL.
            credential_version: gives the version of PostHog's credential it works with.
        """
        self._service = service
        self._database = database
        self._credential_version = credential_version
        self._looking: asyncio.Task[_Seen] | None = None

    async def report(self) -> ServiceHealth:
        """Look at the database, and say how everything is."""
        dependency, schema = await self._look()
        return ServiceHealth(
            service=self._service,
            uptime=round(time.monotonic() - _STARTED, 1),
            database=dependency,
            schema=schema,
            credential_version=self._credential_version(),
            waits_for=waiting_for(),
            bus_problems=bus_problems(),
        )

    async def _look(self) -> _Seen:
        # Not cancelled when it takes too long: asyncpg would wait for the frozen server once more.
        # At most one is under way, so that those who keep asking do not use up the pool.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._database.health())
        done, _ = await asyncio.wait({self._looking}, timeout=LOOK_SECONDS)
        if not done:
            return DependencyHealth(status="down"), SchemaHealth(None, None, [])
        return self._looking.result()
