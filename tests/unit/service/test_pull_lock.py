"""Workers that share a consumer pull one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hogsend.service.pull_lock import PullLock, PullPermit
from hogsend.service.tasks import cancel_all
from tests.virtual_time import on_virtual_time, settle


class Workers:
    """Workers that wait for a permit, and then process a batch until their event is set."""

    def __init__(self) -> None:
        self.lock = PullLock()
        self.started: list[PullPermit] = []
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, then: Callable[[PullPermit], None] = lambda _permit: None) -> asyncio.Event:
        """Add a worker that calls `then` with its permit, and works until the event is set."""
        done = asyncio.Event()

        async def work() -> None:
            async with self.lock.permit() as permit:
                self.started.append(permit)
                then(permit)
                await done.wait()

        self.tasks.append(asyncio.create_task(work()))
        return done


@asynccontextmanager
async def running_workers() -> AsyncIterator[Workers]:
    workers = Workers()
    yield workers
    await cancel_all(*workers.tasks)


@on_virtual_time
async def test_one_worker_pulls_at_a_time() -> None:
    async with running_workers() as workers:
        first = workers.add()
        workers.add()
        await settle()
        assert len(workers.started) == 1
        first.set()
        await settle()
        assert len(workers.started) == 2


@on_virtual_time
async def test_a_permit_released_before_its_batch_is_done_lets_one_other_worker_pull() -> None:
    async with running_workers() as workers:
        first = workers.add(PullPermit.release)
        workers.add()
        workers.add()
        await settle()
        assert len(workers.started) == 2
        # The end of the first batch does not release the second worker's permit.
        first.set()
        await settle()
        assert len(workers.started) == 2


@on_virtual_time
async def test_a_batch_that_takes_long_does_not_block_the_other_workers() -> None:
    async with running_workers() as workers:
        workers.add(lambda permit: permit.release_after(1.0))
        workers.add()
        workers.add()
        await asyncio.sleep(0.9)
        assert len(workers.started) == 1
        await asyncio.sleep(0.2)
        assert len(workers.started) == 2


@on_virtual_time
async def test_the_timer_of_a_short_batch_does_not_release_another_workers_permit() -> None:
    async with running_workers() as workers:
        first = workers.add(lambda permit: permit.release_after(1.0))
        workers.add()
        workers.add()
        await settle()
        first.set()
        await asyncio.sleep(2.0)
        assert len(workers.started) == 2


@on_virtual_time
async def test_a_worker_that_fails_or_is_cancelled_releases_its_permit() -> None:
    lock = PullLock()
    with pytest.raises(RuntimeError):
        async with lock.permit():
            raise RuntimeError("a defect")
    async with running_workers() as workers:
        workers.lock = lock
        workers.add()
        workers.add()
        await settle()
        assert len(workers.started) == 1
        await cancel_all(workers.tasks[0])
        await settle()
        assert len(workers.started) == 2
