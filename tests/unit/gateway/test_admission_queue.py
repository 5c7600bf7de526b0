"""A queue of requests that wait for capacity."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

from services.gateway.admission_queue import AdmissionQueue
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_free_capacity_is_taken_and_no_more_is_freed() -> None:
    free_capacity, has_capacity = Mock(), asyncio.Event()
    queue = AdmissionQueue(free_capacity, every_seconds=10)
    waiting = asyncio.create_task(queue.wait(has_capacity.is_set))
    await settle()
    has_capacity.set()
    queue.wake_first()
    await waiting
    free_capacity.assert_not_called()


@on_virtual_time
async def test_capacity_is_freed_at_an_interval_while_there_is_none() -> None:
    free_capacity, has_capacity = Mock(), asyncio.Event()
    queue = AdmissionQueue(free_capacity, every_seconds=10)
    waiting = asyncio.create_task(queue.wait(has_capacity.is_set))
    await asyncio.sleep(25)
    assert free_capacity.call_count == 2
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    has_capacity.set()
    await queue.wait(has_capacity.is_set)
