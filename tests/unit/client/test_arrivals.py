"""Waiting for a consumer's messages: none is lost to a caller who gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from hogsend.client.arrivals import Arrivals
from hogsend.contract.errors import Forbidden
from hogsend.transport.messages_in_hand import HEARTBEAT_SECONDS
from tests.unit.transport.test_messages_in_hand import HEARTBEAT, FakeConnection
from tests.virtual_time import on_virtual_time, settle


class Source:
    """Gives what a test puts into it."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[list[Msg]]()
        self.closed = False

    async def batches(self) -> AsyncIterator[list[Msg]]:
        try:
            while messages := await self.queue.get():
                yield messages
        finally:
            self.closed = True


@on_virtual_time
async def test_what_arrives_as_its_caller_gives_up_is_the_next_callers() -> None:
    given_up = 0
    for turns in range(10):
        connection, source = FakeConnection(), Source()
        arrivals = Arrivals(connection, source.batches())
        waiting = asyncio.create_task(arrivals.next())
        await settle()
        message = connection.message(1)
        source.queue.put_nowait([message])
        await settle(turns)
        waiting.cancel()
        await asyncio.wait([waiting])
        given_up += waiting.cancelled()
        async with asyncio.timeout(60):
            found = await arrivals.next() if waiting.cancelled() else waiting.result()
        assert found is message
        arrivals.abandon()
    assert given_up > 1


@on_virtual_time
async def test_what_nobody_waits_for_is_in_hand_when_it_arrives() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source.batches())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    source.queue.put_nowait([connection.message(1)])
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert [payload for _, payload in connection.told] == [HEARTBEAT] * 2
    assert await arrivals.next() is not None
    arrivals.abandon()


@on_virtual_time
async def test_who_left_hears_nothing_and_keeps_nothing() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source.batches())
    source.queue.put_nowait([connection.message(1)])
    await arrivals.next()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    arrivals.abandon()
    await settle()
    assert source.closed
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert connection.told == []


@on_virtual_time
async def test_an_end_stays_an_end_and_a_refusal_a_refusal() -> None:
    source = Source()
    arrivals = Arrivals(FakeConnection(), source.batches())
    source.queue.put_nowait([])
    assert [await arrivals.next() for _ in range(2)] == [None, None]

    async def refused() -> AsyncIterator[list[Msg]]:
        raise Forbidden("no")
        yield []

    arrivals = Arrivals(FakeConnection(), refused())
    for _ in range(2):
        with pytest.raises(Forbidden):
            await arrivals.next()
