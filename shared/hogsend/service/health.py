"""The health of a service's process, as it reports it when the gateway asks."""

from __future__ import annotations

import time
from collections.abc import Callable

from hogsend.contract.health import DependencyHealth, SchemaHealth, ServiceHealth
from hogsend.service.bus_health import bus_problems
from hogsend.service.database import Database
from hogsend.service.retry import waiting_for
from hogsend.service.shared_read import SharedRead

LOOK_SECONDS = 1.0
"""How long PostgreSQL may take. Shorter than the gateway waits for the whole answer, so that a
frozen PostgreSQL is told apart from a service that does not run."""

_STARTED = time.monotonic()
_DOWN = DependencyHealth(status="down"), SchemaHealth(None, None, [])


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
        self._looking = SharedRead(database.health)
        self._credential_version = credential_version

    async def report(self) -> ServiceHealth:
        """Look at the database, and say how everything is."""
        dependency, schema = await self._looking.result(LOOK_SECONDS) or _DOWN
        return ServiceHealth(
            service=self._service,
            uptime=round(time.monotonic() - _STARTED, 1),
            database=dependency,
            schema=schema,
            credential_version=self._credential_version(),
            waits_for=waiting_for(),
            bus_problems=bus_problems(),
        )
