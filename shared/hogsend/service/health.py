"""The health of a service's process and database, which the gateway includes in its report."""

from __future__ import annotations

import time
from collections.abc import Callable

import asyncpg

from hogsend.contract.errors import Unavailable
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
        self._database_health = SharedRead(lambda: check_database(database))
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


async def check_database(database: Database) -> tuple[DependencyHealth, SchemaHealth]:
    """Check that PostgreSQL responds, and which migrations are applied and pending."""
    required = database.required_migrations
    newest = required[-1] if required else None
    started = time.perf_counter()
    try:
        async with database.acquire() as connection:
            rows = await connection.fetch("SELECT version FROM schema_migrations ORDER BY version")
    except (Unavailable, asyncpg.PostgresError):
        return (
            DependencyHealth(status="down"),
            SchemaHealth(applied=None, required=newest, pending=[]),
        )
    applied = [str(row["version"]) for row in rows]
    latency = round((time.perf_counter() - started) * 1000, 1)
    return (
        DependencyHealth(status="up", latency_ms=latency),
        SchemaHealth(
            applied=applied[-1] if applied else None,
            required=newest,
            pending=[version for version in required if version not in applied],
        ),
    )
