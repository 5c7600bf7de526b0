"""The health of a service's process, which the gateway requests and includes in its report."""

from __future__ import annotations

import time
from collections.abc import Callable

from hogsend.contract.health import DependencyHealth, SchemaHealth, ServiceHealth
from hogsend.service.bus_health import bus_problems
from hogsend.service.database import Database
from hogsend.service.retry import waiting_for
from hogsend.service.shared_read import SharedRead

DATABASE_SECONDS = 1.0
"""How long the check of PostgreSQL may take. Shorter than the gateway's timeout for the whole
reply, so that a frozen PostgreSQL is reported as down and not the service itself."""

_STARTED = time.monotonic()
_DOWN = DependencyHealth(status="down"), SchemaHealth(None, None, [])


class HealthReporter:
    """Reports the health of this process, its database and the dependencies that it waits for."""

    def __init__(
        self,
        service: str,
        database: Database,
        credential_version: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Prepare the reports of one service.

        Args:
            service: its name.
            database: its schema in PostgreSQL.
            credential_version: returns the version of PostHog's credential that the service uses.
        """
        self._service = service
        self._database_health = SharedRead(database.health)
        self._credential_version = credential_version

    async def report(self) -> ServiceHealth:
        """Check the database, and return the health of all parts."""
        dependency, schema = await self._database_health.result(DATABASE_SECONDS) or _DOWN
        return ServiceHealth(
            service=self._service,
            uptime=round(time.monotonic() - _STARTED, 1),
            database=dependency,
            schema=schema,
            credential_version=self._credential_version(),
            waits_for=waiting_for(),
            bus_problems=bus_problems(),
        )
