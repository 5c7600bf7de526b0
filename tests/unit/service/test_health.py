"""The health that a service reports while its database is frozen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock

from hogsend.contract.health import DependencyHealth
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from hogsend.service.postgres_pool import PooledConnection
from tests.virtual_time import on_virtual_time


class FrozenDatabase(Database):
    """Lends a connection to a schema without migrations once it is thawed."""

    def __init__(self) -> None:
        super().__init__("postgresql://x", "ingest", Path(), pool_size=1)
        self.thaw = asyncio.Event()
        self.checks = 0

    @asynccontextmanager
    async def acquire(self, *, snapshot: bool = False) -> AsyncIterator[PooledConnection]:
        del snapshot
        self.checks += 1
        await self.thaw.wait()
        yield cast("PooledConnection", AsyncMock(fetch=AsyncMock(return_value=[])))


@on_virtual_time
async def test_a_frozen_postgresql_is_down_and_the_service_still_reports() -> None:
    database = FrozenDatabase()
    reporter = HealthReporter("ingest", database)
    for _ in range(3):
        report = await reporter.report()
        assert report.database == DependencyHealth(status="down")
        assert (report.schema.applied, report.schema.pending) == (None, [])
    # The three reports shared one read, so only one connection was used.
    assert database.checks == 1
    database.thaw.set()
    assert (await reporter.report()).database.status == "up"


async def test_each_report_checks_the_database_again() -> None:
    database = FrozenDatabase()
    database.thaw.set()
    reporter = HealthReporter("ingest", database)
    await reporter.report()
    await reporter.report()
    assert database.checks == 2
