"""The health of a service's process, as it reports it when the gateway asks."""

from __future__ import annotations

import time
from collections.abc import Callable

from hogsend.contract.health import ServiceHealth
from hogsend.service.database import Database
from hogsend.service.retry import waiting_for

_STARTED = time.monotonic()


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

    async def report(self) -> ServiceHealth:
        """Look at the database, and say how everything is."""
        dependency, schema = await self._database.health()
        return ServiceHealth(
            service=self._service,
            uptime=round(time.monotonic() - _STARTED, 1),
            database=dependency,
            schema=schema,
            credential_version=self._credential_version(),
            waits_for=waiting_for(),
        )
