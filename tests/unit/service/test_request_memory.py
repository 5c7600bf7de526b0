"""Requests in work take no more memory than they may; small ones never wait."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import msgspec
import pytest

from hogsend.contract.errors import TooLarge
from hogsend.contract.json_memory import decoded_bytes
from hogsend.service.request_memory import SMALL_BYTES, RequestMemory
from tests.virtual_time import on_virtual_time, settle

SMALL = b"x"
LARGE = b" " * (SMALL_BYTES + 1)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            b"[[[[]]]],",
            b"{},",
            b'{"a":1},',
            b'{"a":{"a":{}}},',
            b"1.5,",
            b'"ab",',
            '"😀",'.encode(),
        ),
        pytest.param(json.dumps("😀" + "a" * 1000).encode() + b",", id="escaped"),
    ],
)
def test_json_is_taken_for_at_least_what_it_takes(piece: bytes) -> None:
    body = b"[" + piece * (100_000 // len(piece)) + b"0]"
    tracemalloc.start()
    decoded = msgspec.json.decode(body)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoded
    assert 0.9 * taken <= decoded_bytes(body)


async def test_ordinary_json_of_eight_megabytes_is_taken_for_less_than_all_may_take() -> None:
    event = b'{"event":"signed_up","properties":{"plan":"free","seats":12,"email":"a@b.co"}},'
    body = b"[" + event * (8_000_000 // len(event)) + b"0]"
    memory = RequestMemory()
    memory.free(await memory.admit(body))
    assert memory.held == 0


async def test_a_request_that_would_take_more_than_all_may_is_refused() -> None:
    memory = RequestMemory()
    with pytest.raises(TooLarge, match="MiB"):
        await memory.admit(b"[" * 8_000_000)
    assert memory.held == 0


@on_virtual_time
async def test_large_requests_wait_in_their_order_and_small_ones_do_not() -> None:
    memory = RequestMemory(max_bytes=2 * len(LARGE))
    admitted: list[str] = []

    async def ask(name: str, body: bytes) -> int:
        size = await memory.admit(body)
        admitted.append(name)
        return size

    first = await ask("first", LARGE)
    large = asyncio.create_task(ask("large", LARGE + LARGE))
    given_up = asyncio.create_task(ask("given up", LARGE))
    last = asyncio.create_task(ask("last", LARGE))
    await settle()
    # There is room for the last one, but it would go on keeping the large one waiting.
    small = await ask("small", SMALL)
    assert admitted == ["first", "small"]
    given_up.cancel()
    memory.free(first)
    await settle()
    # Nor does a small one keep it waiting, which needs all there is.
    assert admitted == ["first", "small", "large"]
    memory.free(small)
    memory.free(await large)
    memory.free(await last)
    assert admitted[-1] == "last"
    assert memory.held == 0


@on_virtual_time
async def test_one_that_is_given_up_makes_room_for_those_behind_it() -> None:
    memory = RequestMemory(max_bytes=2 * len(LARGE))
    held = await memory.admit(LARGE)
    large = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    behind = asyncio.create_task(memory.admit(LARGE))
    await settle()
    large.cancel()
    await settle()
    memory.free(await behind)
    # Given up in the moment in which it was admitted.
    admitted = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    await settle()
    memory.free(held)
    admitted.cancel()
    await settle()
    assert memory.held == 0
    # Or in the moment before.
    held = await memory.admit(LARGE)
    cancelled = asyncio.create_task(memory.admit(LARGE + LARGE[1:]))
    behind = asyncio.create_task(memory.admit(LARGE))
    await settle()
    cancelled.cancel()
    memory.free(held)
    await settle()
    memory.free(await behind)
    assert memory.held == 0
