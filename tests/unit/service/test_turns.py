"""Whose turn it is to ask a consumer that several workers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hogsend.service.tasks import cancel_all
from hogsend.service.turns import Turn, Turns
from tests.virtual_time import on_virtual_time, settle


class Workers:
    """Workers that wait for a turn, and go on with it until they are told to stop."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.began: list[Turn] = []
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, then: Callable[[Turn], None] = lambda _turn: None) -> asyncio.Event:
        """Add a worker that does `then` with its turn, and works until the event is set."""
        done = asyncio.Event()

        async def work() -> None:
            async with self.turns.one() as turn:
                self.began.append(turn)
                then(turn)
                await done.wait()

        self.tasks.append(asyncio.create_task(work()))
        return done


@asynccontextmanager
async def workers() -> AsyncIterator[Workers]:
    made = Workers()
    yield made
    await cancel_all(*made.tasks)


@on_virtual_time
async def test_one_worker_asks_at_a_time() -> None:
    async with workers() as made:
        first = made.add()
        made.add()
        await settle()
        assert len(made.began) == 1
        first.set()
        await settle()
        assert len(made.began) == 2


@on_virtual_time
async def test_a_turn_that_ends_before_its_batch_lets_one_other_worker_ask() -> None:
    async with workers() as made:
        first = made.add(Turn.end)
        made.add()
        made.add()
        await settle()
        assert len(made.began) == 2
        # The end of the batch is not the end of the other worker's turn.
        first.set()
        await settle()
        assert len(made.began) == 2


@on_virtual_time
async def test_a_batch_that_takes_long_keeps_nobody_waiting() -> None:
    async with workers() as made:
        made.add(lambda turn: turn.end_within(1.0))
        made.add()
        made.add()
        await asyncio.sleep(0.9)
        assert len(made.began) == 1
        await asyncio.sleep(0.2)
        assert len(made.began) == 2


@on_virtual_time
async def test_the_end_of_a_short_batchs_time_is_not_the_end_of_another_ones_turn() -> None:
    async with workers() as made:
        first = made.add(lambda turn: turn.end_within(1.0))
        made.add()
        made.add()
        await settle()
        first.set()
        await asyncio.sleep(2.0)
        assert len(made.began) == 2


@on_virtual_time
async def test_a_worker_that_fails_or_is_cancelled_gives_up_its_turn() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError):
        async with turns.one():
            raise RuntimeError("a defect")
    async with workers() as made:
        made.turns = turns
        made.add()
        made.add()
        await settle()
        assert len(made.began) == 1
        await cancel_all(made.tasks[0])
        await settle()
        assert len(made.began) == 2
