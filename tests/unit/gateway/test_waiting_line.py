"""A line of requests that wait for room."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

from services.gateway.waiting_line import WaitingLine
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_room_that_is_free_is_taken_and_no_more_is_made() -> None:
    make_room, room = Mock(), asyncio.Event()
    line = WaitingLine(make_room, every_seconds=10)
    waiting = asyncio.create_task(line.wait(room.is_set))
    await settle()
    room.set()
    line.look()
    await waiting
    make_room.assert_not_called()


@on_virtual_time
async def test_room_is_made_now_and_then_while_there_is_none() -> None:
    make_room, room = Mock(), asyncio.Event()
    line = WaitingLine(make_room, every_seconds=10)
    waiting = asyncio.create_task(line.wait(room.is_set))
    await asyncio.sleep(25)
    assert make_room.call_count == 2
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    room.set()
    await line.wait(room.is_set)
