"""A caller gets the result of a read that started after its call, shared with other callers."""

from __future__ import annotations

import asyncio

import pytest

from hogsend.contract.errors import Unavailable
from services.credentials.records import Snapshot
from services.credentials.shared_loads import SharedLoads


class Database:
    """Returns a higher version at every read, once `responding` is set."""

    def __init__(self) -> None:
        self.reads = 0
        self.available = True
        self.reading = asyncio.Event()
        self.responding = asyncio.Event()

    async def load(self, _provider: str) -> Snapshot:
        self.reads += 1
        version = self.reads
        self.reading.set()
        await self.responding.wait()
        if not self.available:
            raise Unavailable("PostgreSQL is not available")
        return Snapshot(version, {})


def pending(loads: SharedLoads, count: int) -> list[asyncio.Task[Snapshot]]:
    return [asyncio.create_task(loads.load("posthog")) for _ in range(count)]


async def test_no_caller_gets_a_read_that_started_before_its_call() -> None:
    database = Database()
    loads = SharedLoads(database.load)
    first = pending(loads, 3)
    await database.reading.wait()
    second = pending(loads, 3)
    await asyncio.sleep(0)
    database.responding.set()
    versions = [(await load).version for load in first + second]
    assert versions == [1, 1, 1, 2, 2, 2]
    assert (await loads.load("posthog")).version == 3, "results are not cached"


async def test_providers_do_not_wait_for_one_another() -> None:
    database = Database()
    loads = SharedLoads(database.load)
    load = asyncio.create_task(loads.load("posthog"))
    await database.reading.wait()
    database.responding.set()
    assert (await loads.load("other")).version == 2
    assert (await load).version == 1


async def test_a_cancelled_caller_does_not_cancel_the_read_of_others() -> None:
    database = Database()
    loads = SharedLoads(database.load)
    first, second = pending(loads, 2)
    await database.reading.wait()
    first.cancel()
    database.responding.set()
    assert (await second).version == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_failed_read_fails_for_its_callers_and_not_for_later_ones() -> None:
    database = Database()
    database.available = False
    database.responding.set()
    loads = SharedLoads(database.load)
    outcomes = await asyncio.gather(*pending(loads, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    database.available = True
    assert (await loads.load("posthog")).version == 2
