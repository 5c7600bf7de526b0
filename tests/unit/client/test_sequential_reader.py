"""Reading a single message at a time: a cancelled call loses no message."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from hogsend.client.sequential_reader import CANCELLED_WAIT_SECONDS, SequentialReader
from hogsend.contract.errors import Forbidden
from hogsend.transport.in_flight import HEARTBEAT_SECONDS
from tests.unit.transport.test_in_flight import HEARTBEAT, FakeConnection
from tests.virtual_time import on_virtual_time, run, settle

NAK = b"-NAK"


class Source:
    """Yields the batches that a test puts into its queue."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[list[Msg]]()
        self.heartbeat = HEARTBEAT_SECONDS
        self.deleted = False
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
        self.deleted = True


@on_virtual_time
async def test_a_message_that_arrives_at_a_cancelled_call_is_returned_by_the_next() -> None:
    cancelled_count = 0
    for iterations in range(10):
        connection, source = FakeConnection(), Source()
        reader = SequentialReader(connection, source, shared=True)
        waiting = asyncio.create_task(reader.next())
        await settle()
        message = connection.message(1)
        source.queue.put_nowait([message])
        await settle(iterations)
        waiting.cancel()
        await asyncio.wait([waiting])
        cancelled_count += waiting.cancelled()
        async with asyncio.timeout(60):
            received = await reader.next() if waiting.cancelled() else waiting.result()
        assert received is message
        reader.abandon()
    assert cancelled_count > 1


@on_virtual_time
async def test_a_message_for_a_cancelled_call_gets_heartbeats() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.next(), 1)
    source.queue.put_nowait([connection.message(1)])
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert [payload for _, payload in connection.published] == [HEARTBEAT] * 2
    assert await reader.next() is not None
    reader.abandon()


@on_virtual_time
async def test_a_shared_message_that_no_call_returns_is_naked() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.next(), 1)
    message = connection.message(1)
    source.queue.put_nowait([message])
    await asyncio.sleep(CANCELLED_WAIT_SECONDS)
    await settle()
    assert connection.published[-1] == (message.reply, NAK)
    # Reading has only paused: a later call returns the redelivery.
    source.queue.put_nowait([again := connection.message(1, delivery=2)])
    assert await reader.next() is again
    reader.abandon()


@on_virtual_time
async def test_a_call_during_a_pause_waits_for_the_next_message() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    source.closing = asyncio.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.next(), 1)
    await asyncio.sleep(CANCELLED_WAIT_SECONDS)
    await settle()
    assert source.closed
    reading = asyncio.create_task(reader.next())
    await settle()
    source.closing.set()
    source.queue.put_nowait([connection.message(1)])
    assert await reading is not None
    reader.abandon()


@on_virtual_time
async def test_a_message_that_arrives_at_a_pause_is_either_returned_or_naked() -> None:
    returned_count = 0
    # The first call runs in the iteration of the loop that would pause, but before the pause.
    for early, iterations in [(1e-10, 0), *((0.0, iterations) for iterations in range(10))]:
        connection, source = FakeConnection(), Source()
        reader = SequentialReader(connection, source, shared=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.next(), 1)
        source.queue.put_nowait([message := connection.message(1)])
        source.queue.put_nowait([connection.message(2)])
        await asyncio.sleep(CANCELLED_WAIT_SECONDS - early)
        await settle(iterations)
        is_returned = await reader.next() is message
        await settle()
        assert is_returned != ((message.reply, NAK) in connection.published)
        returned_count += is_returned
        reader.abandon()
    assert returned_count == 1


@on_virtual_time
async def test_another_call_before_the_pause_prevents_it() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.next(), 1)
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(2 * CANCELLED_WAIT_SECONDS)
    assert not source.closed
    source.queue.put_nowait([message := connection.message(1)])
    assert await waiting is message
    reader.abandon()


@on_virtual_time
async def test_stop_ends_a_waiting_call() -> None:
    source = Source()
    reader = SequentialReader(FakeConnection(), source, shared=True)
    waiting = asyncio.create_task(reader.next())
    await settle()
    reader.stop()
    assert await waiting is None


@on_virtual_time
async def test_a_cancelled_close_is_completed_when_the_connection_is_closed() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=False)
    source.closing = asyncio.Event()
    waiting = asyncio.create_task(reader.next())
    await settle()
    closing = asyncio.create_task(reader.close())
    await settle()
    closing.cancel()
    await asyncio.wait([closing])
    assert not source.deleted
    source.closing.set()
    await connection.close()
    assert source.deleted
    assert await waiting is None


@on_virtual_time
async def test_no_reference_to_a_closed_reader_is_kept() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    for number in (1, 2):
        source.queue.put_nowait([connection.message(number)])
        await reader.next()
    await reader.close()
    weak = weakref.ref(reader)
    del reader
    await settle()
    gc.collect()
    assert weak() is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_reader_can_be_abandoned_after_its_event_loop_has_closed() -> None:
    async def read() -> SequentialReader:
        connection, source = FakeConnection(), Source()
        reader = SequentialReader(connection, source, shared=True)
        source.queue.put_nowait([connection.message(1)])
        await reader.next()
        return reader

    run(read()).abandon()
    SequentialReader(FakeConnection(), Source(), shared=True).abandon()


@on_virtual_time
async def test_an_abandoned_reader_naks_its_message_and_reads_no_more() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    source.queue.put_nowait([message := connection.message(1)])
    await reader.next()
    reader.abandon()
    await settle()
    assert [subject for subject, _ in connection.published] == [message.reply]
    assert connection.published[0][1].startswith(NAK)
    await asyncio.sleep(2.5 * HEARTBEAT_SECONDS)
    assert len(connection.published) == 1
    assert await reader.next() is None


@on_virtual_time
async def test_close_ends_a_waiting_call() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    waiting = asyncio.create_task(reader.next())
    await settle()
    await reader.close()
    assert source.closed
    assert await waiting is None


@on_virtual_time
async def test_after_stop_the_current_message_gets_heartbeats_until_it_is_acknowledged() -> None:
    connection, source = FakeConnection(), Source()
    reader = SequentialReader(connection, source, shared=True)
    source.queue.put_nowait([message := connection.message(1)])
    assert await reader.next() is message
    reader.stop()
    await asyncio.sleep(1.5 * HEARTBEAT_SECONDS)
    await message.ack()
    assert connection.published == [(message.reply, HEARTBEAT), (message.reply, b"")]
    assert await reader.next() is None


@on_virtual_time
async def test_later_calls_repeat_the_end_and_a_refusal() -> None:
    source = Source()
    reader = SequentialReader(FakeConnection(), source, shared=True)
    source.queue.put_nowait([])
    assert [await reader.next() for _ in range(2)] == [None, None]

    class Refused(Source):
        async def batches(self) -> AsyncIterator[list[Msg]]:
            raise Forbidden("no")
            yield []

    reader = SequentialReader(FakeConnection(), Refused(), shared=True)
    for _ in range(2):
        with pytest.raises(Forbidden):
            await reader.next()
