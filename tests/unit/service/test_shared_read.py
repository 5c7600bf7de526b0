"""Reads that callers share, and that continue when a caller's timeout has passed."""

from __future__ import annotations

import asyncio

from hogsend.service.shared_read import SharedRead


class Server:
    """Returns the number of the read, once it is thawed."""

    def __init__(self) -> None:
        self.reads = 0
        self.started, self.thawed = asyncio.Event(), asyncio.Event()

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        self.started.set()
        await self.thawed.wait()
        return number


async def test_callers_at_the_same_time_share_one_read() -> None:
    server = Server()
    server.thawed.set()
    shared = SharedRead(server.read)
    assert tuple(await asyncio.gather(shared.result(60), shared.result(60))) == (1, 1)
    assert await shared.result(60) == 2


async def test_a_read_that_times_out_continues_for_the_next_caller() -> None:
    server = Server()
    shared = SharedRead(server.read)
    assert await shared.result(0) is None
    assert await shared.result(0) is None
    server.thawed.set()
    assert await shared.result(60) == 1


async def test_a_caller_gets_the_result_of_its_read_when_the_next_read_has_started() -> None:
    server = Server()
    shared = SharedRead(server.read)

    async def twice() -> list[int | None]:
        return [await shared.result(60), await shared.result(60)]

    first, second = asyncio.create_task(twice()), asyncio.create_task(shared.result(60))
    await server.started.wait()
    server.thawed.set()
    assert await first == [1, 2]
    assert await second == 1
