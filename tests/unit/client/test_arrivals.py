"""Waiting for a consumer's messages: none is lost to a caller who gives up."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from hogsend.client.arrivals import UNASKED_SECONDS, Arrivals
from hogsend.contract.errors import Forbidden
from hogsend.transport.in_flight import HEARTBEAT_SECONDS
from tests.unit.transport.test_in_flight import HEARTBEAT, FakeConnection
from tests.virtual_time import on_virtual_time, run, settle

GIVEN_BACK = b"-NAK"


class Source:
    """Gives what a test puts into it."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[list[Msg]]()
        self.heartbeat = HEARTBEAT_SECONDS
        self.forgotten = False
        self.closed = False
        self.closing: asyncio.Event | None = None

    async def batches(self) -> AsyncIterator[list[Msg]]:
        try:
            while messages := await self.queue.get():
                yield messages
        finally:
            self.closed = True
            if self.closing is not None:
                await self.closing.wait()

    async def delete_ephemeral(self) -> None:
        self.forgotten = True


@on_virtual_time
async def test_what_arrives_as_its_caller_gives_up_is_the_next_callers() -> None:
    given_up = 0
    for turns in range(10):
        connection, source = FakeConnection(), Source()
        arrivals = Arrivals(connection, source, shared=True)
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
    arrivals = Arrivals(connection, source, shared=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    source.queue.put_nowait([connection.message(1)])
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert [payload for _, payload in connection.published] == [HEARTBEAT] * 2
    assert await arrivals.next() is not None
    arrivals.abandon()


@on_virtual_time
async def test_what_others_would_get_is_not_kept_for_who_never_asks_again() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    message = connection.message(1)
    source.queue.put_nowait([message])
    await asyncio.sleep(UNASKED_SECONDS)
    await settle()
    assert connection.published[-1] == (message.reply, GIVEN_BACK)
    # It was no end: who asks after all is given what comes.
    source.queue.put_nowait([again := connection.message(1, delivery=2)])
    assert await arrivals.next() is again
    arrivals.abandon()


@on_virtual_time
async def test_who_asks_while_what_came_is_given_back_waits_for_the_next() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    source.closing = asyncio.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    await asyncio.sleep(UNASKED_SECONDS)
    await settle()
    assert source.closed
    asking = asyncio.create_task(arrivals.next())
    await settle()
    source.closing.set()
    source.queue.put_nowait([connection.message(1)])
    assert await asking is not None
    arrivals.abandon()


@on_virtual_time
async def test_what_comes_as_it_is_given_back_is_either_handed_out_or_given_back() -> None:
    handed_out = 0
    # The first asks again in the turn of the loop in which it is to be given back, and before.
    for early, turns in [(1e-10, 0), *((0.0, turns) for turns in range(10))]:
        connection, source = FakeConnection(), Source()
        arrivals = Arrivals(connection, source, shared=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arrivals.next(), 1)
        source.queue.put_nowait([message := connection.message(1)])
        source.queue.put_nowait([connection.message(2)])
        await asyncio.sleep(UNASKED_SECONDS - early)
        await settle(turns)
        is_handed_out = await arrivals.next() is message
        await settle()
        assert is_handed_out != ((message.reply, GIVEN_BACK) in connection.published)
        handed_out += is_handed_out
        arrivals.abandon()
    assert handed_out == 1


@on_virtual_time
async def test_who_asks_again_in_time_is_not_cut_short() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arrivals.next(), 1)
    waiting = asyncio.create_task(arrivals.next())
    await asyncio.sleep(2 * UNASKED_SECONDS)
    assert not source.closed
    source.queue.put_nowait([message := connection.message(1)])
    assert await waiting is message
    arrivals.abandon()


@on_virtual_time
async def test_an_end_ends_a_wait() -> None:
    source = Source()
    arrivals = Arrivals(FakeConnection(), source, shared=True)
    waiting = asyncio.create_task(arrivals.next())
    await settle()
    arrivals.end()
    assert await waiting is None


@on_virtual_time
async def test_who_is_cancelled_as_it_leaves_leaves_when_the_connection_is_closed() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=False)
    source.closing = asyncio.Event()
    waiting = asyncio.create_task(arrivals.next())
    await settle()
    leaving = asyncio.create_task(arrivals.leave())
    await settle()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert not source.forgotten
    source.closing.set()
    await connection.close()
    assert source.forgotten
    assert await waiting is None


@on_virtual_time
async def test_nothing_is_left_of_who_left() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    for number in (1, 2):
        source.queue.put_nowait([connection.message(number)])
        await arrivals.next()
    await arrivals.leave()
    left = weakref.ref(arrivals)
    del arrivals
    await settle()
    gc.collect()
    assert left() is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_garbage_of_a_loop_that_is_over_is_nothings_concern() -> None:
    async def ask() -> Arrivals:
        connection, source = FakeConnection(), Source()
        arrivals = Arrivals(connection, source, shared=True)
        source.queue.put_nowait([connection.message(1)])
        await arrivals.next()
        return arrivals

    run(ask()).abandon()
    Arrivals(FakeConnection(), Source(), shared=True).abandon()


@on_virtual_time
async def test_who_left_hears_nothing_and_keeps_nothing() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    source.queue.put_nowait([message := connection.message(1)])
    await arrivals.next()
    arrivals.abandon()
    await settle()
    assert [subject for subject, _ in connection.published] == [message.reply]
    assert connection.published[0][1].startswith(GIVEN_BACK)
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert len(connection.published) == 1
    assert await arrivals.next() is None


@on_virtual_time
async def test_who_left_while_waiting_ends_the_wait() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    waiting = asyncio.create_task(arrivals.next())
    await settle()
    await arrivals.leave()
    assert source.closed
    assert await waiting is None


@on_virtual_time
async def test_behind_the_end_what_is_in_hand_is_kept_until_it_is_acknowledged() -> None:
    connection, source = FakeConnection(), Source()
    arrivals = Arrivals(connection, source, shared=True)
    source.queue.put_nowait([message := connection.message(1)])
    assert await arrivals.next() is message
    arrivals.end()
    await asyncio.sleep(1.5 * HEARTBEAT_SECONDS)
    await message.ack()
    assert connection.published == [(message.reply, HEARTBEAT), (message.reply, b"")]
    assert await arrivals.next() is None


@on_virtual_time
async def test_an_end_stays_an_end_and_a_refusal_a_refusal() -> None:
    source = Source()
    arrivals = Arrivals(FakeConnection(), source, shared=True)
    source.queue.put_nowait([])
    assert [await arrivals.next() for _ in range(2)] == [None, None]

    class Refused(Source):
        async def batches(self) -> AsyncIterator[list[Msg]]:
            raise Forbidden("no")
            yield []

    arrivals = Arrivals(FakeConnection(), Refused(), shared=True)
    for _ in range(2):
        with pytest.raises(Forbidden):
            await arrivals.next()
