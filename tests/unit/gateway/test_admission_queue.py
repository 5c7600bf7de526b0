"""A queue of requests that wait for capacity."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

from services.gateway.admission_queue import AdmissionQueue
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_a_waiting_request_uses_free_capacity_without_freeing_more() -> None:
    free_capacity, has_capacity = Mock(), asyncio.Event()
    queue = AdmissionQueue(free_capacity, every_seconds=10)
    waiting = asyncio.create_task(queue.wait(has_capacity.is_set))
    await settle()
    has_capacity.set()
    queue.wake_first()
    await waiting
    free_capacity.assert_not_called()


@on_virtual_time
async def test_the_queue_frees_capacity_at_an_interval_while_a_request_waits() -> None:
    free_capacity, has_capacity = Mock(), asyncio.Event()
    queue = AdmissionQueue(free_capacity, every_seconds=10)
    waiting = asyncio.create_task(queue.wait(has_capacity.is_set))
    await asyncio.sleep(25)
    assert free_capacity.call_count == 2
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    has_capacity.set()
    await queue.wait(has_capacity.is_set)
