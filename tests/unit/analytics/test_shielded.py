"""Work that runs to its end although its task is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from services.analytics.delivery.shielded import shielded
from tests.virtual_time import now, on_virtual_time


@on_virtual_time
async def test_work_that_is_cancelled_twice_finishes_before_the_cancellation() -> None:
    finished = []

    async def work() -> None:
        await asyncio.sleep(5)
        finished.append(now())

    async def caller() -> None:
        await shielded(work())
        raise AssertionError("the cancellation was swallowed")

    task = asyncio.create_task(caller())
    for _ in range(2):
        await asyncio.sleep(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == [5]


@on_virtual_time
async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await shielded(work())
