"""Requests in progress stay within the memory budget; small ones never wait."""

from __future__ import annotations

import asyncio

import pytest

from hogsend.contract.errors import TooLarge
from hogsend.contract.json_memory import decoded_bytes
from hogsend.service.request_memory import SMALL_BYTES, RequestMemory
from tests.virtual_time import on_virtual_time, settle

SMALL = b"x"
LARGE = b" " * (SMALL_BYTES + 1)


async def test_ordinary_json_of_eight_megabytes_fits_the_budget() -> None:
    event = b'{"event":"signed_up","properties":{"plan":"free","seats":12,"email":"a@b.co"}},'
    body = b"[" + event * (8_000_000 // len(event)) + b"0]"
    memory = RequestMemory()
    memory.release(await memory.admit(body))
    assert memory.reserved_bytes == 0


async def test_a_request_above_the_whole_budget_is_refused() -> None:
    memory = RequestMemory()
    with pytest.raises(TooLarge, match="MiB"):
        await memory.admit(b"[" * 8_000_000)
    assert memory.reserved_bytes == 0


@on_virtual_time
async def test_large_requests_wait_in_their_order_and_small_ones_do_not() -> None:
    memory = RequestMemory(max_bytes=2 * decoded_bytes(LARGE))
    admitted: list[str] = []

    async def admit(name: str, body: bytes) -> int:
        size = await memory.admit(body)
        admitted.append(name)
        return size

    first = await admit("first", LARGE)
    large = asyncio.create_task(admit("large", LARGE + LARGE))
    cancelled = asyncio.create_task(admit("cancelled", LARGE))
    last = asyncio.create_task(admit("last", LARGE))
    await settle()
    # The last one would fit, but it would delay the large one further.
    small = await admit("small", SMALL)
    assert admitted == ["first", "small"]
    cancelled.cancel()
    memory.release(first)
    await settle()
    # The small one does not delay the large one either, which needs the whole budget.
    assert admitted == ["first", "small", "large"]
    memory.release(small)
    memory.release(await large)
    memory.release(await last)
    assert admitted[-1] == "last"
    assert memory.reserved_bytes == 0


@on_virtual_time
async def test_a_cancelled_request_releases_its_memory_to_later_ones() -> None:
    memory = RequestMemory(max_bytes=2 * decoded_bytes(LARGE))
    first = await memory.admit(LARGE)
    large = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    later = asyncio.create_task(memory.admit(LARGE))
    await settle()
    large.cancel()
    await settle()
    memory.release(await later)
    # Cancelled in the iteration of the loop in which it is admitted.
    admitted = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    await settle()
    memory.release(first)
    admitted.cancel()
    await settle()
    assert memory.reserved_bytes == 0
    # Cancelled in the iteration before.
    first = await memory.admit(LARGE)
    cancelled = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    later = asyncio.create_task(memory.admit(LARGE))
    await settle()
    cancelled.cancel()
    memory.release(first)
    await settle()
    memory.release(await later)
    assert memory.reserved_bytes == 0
