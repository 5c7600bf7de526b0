"""The health a service reports of itself while its database does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hogsend.contract.health import DependencyHealth, SchemaHealth
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from tests.virtual_time import on_virtual_time

SEEN = (DependencyHealth(status="up", latency_ms=1.0), SchemaHealth("1", "1", []))


class FrozenDatabase(Database):
    """Answers once it is told to."""

    def __init__(self) -> None:
        super().__init__("postgresql://x", "ingest", Path(), pool_size=1)
        self.thaw = asyncio.Event()
        self.looks = 0

    async def health(self) -> tuple[DependencyHealth, SchemaHealth]:
        self.looks += 1
        await self.thaw.wait()
        return SEEN


@on_virtual_time
async def test_a_frozen_postgresql_is_down_and_the_service_still_answers() -> None:
    database = FrozenDatabase()
    reporter = HealthReporter("ingest", database)
    for _ in range(3):
        report = await reporter.report()
        assert report.database == DependencyHealth(status="down")
        assert (report.schema.applied, report.schema.pending) == (None, [])
    # Those who ask again do not each take a connection.
    assert database.looks == 1
    database.thaw.set()
    assert (await reporter.report()).database.status == "up"


async def test_a_look_that_fails_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    database = FrozenDatabase()
    database.thaw.set()
    reporter = HealthReporter("ingest", database)
    await reporter.report()
    await reporter.report()
    assert database.looks == 2
