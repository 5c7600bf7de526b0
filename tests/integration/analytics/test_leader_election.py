"""One replica leads; another one leads when it stops or loses its lock in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from hogsend.service.database import Database
from services.analytics.app import MIGRATIONS
from services.analytics.delivery.leader_election import LeaderElection
from tests.waiting import eventually


class Replica:
    """A replica that only takes part in the leader election."""

    def __init__(self, database: Database) -> None:
        self.leads = False
        self.times_led = 0
        self._election = LeaderElection(database, self._work)
        self._running = asyncio.create_task(self._election.run())

    async def stop(self) -> None:
        await self._election.stop()

    async def _work(self) -> None:
        self.leads = True
        self.times_led += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False


@asynccontextmanager
async def running(database_url: str) -> AsyncIterator[Replica]:
    database = Database(database_url, "analytics", MIGRATIONS, pool_size=2)
    await database.connect()
    replica = Replica(database)
    try:
        yield replica
    finally:
        await replica.stop()
        await database.close()


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_another_replica_leads_when_the_first_has_stopped(
    database_url: str, postgres: Any
) -> None:
    async def was_refused_the_lock() -> bool:
        # The pool resets a connection that was released after the lock was refused.
        return bool(
            await postgres.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query LIKE '%pg_advisory_unlock_all%'"
            )
        )

    async with running(database_url) as first:
        await eventually(lambda: first.leads)
        async with running(database_url) as second:
            await eventually(was_refused_the_lock)
            assert (first.leads, second.times_led) == (True, 0)
            await first.stop()
            await eventually(lambda: second.leads)


async def test_a_leader_that_loses_its_lock_in_postgresql_stops_its_work_and_leads_again(
    database_url: str, postgres: Any
) -> None:
    async with running(database_url) as replica:
        await eventually(lambda: replica.leads)
        await postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await eventually(lambda: replica.times_led == 2)
        assert replica.leads
