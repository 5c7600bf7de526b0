"""Messages in flight get heartbeats, which prevent a redelivery, and are nak'ed at the end."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import nullcontext
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.transport.connection import Connection
from hogsend.transport.in_flight import CLEAR_EVERY, InFlightMessages
from tests.virtual_time import on_virtual_time, settle

HEARTBEAT = b"+WPI"


class FakeConnection(Connection):
    """A connection that records the acknowledgements, naks and heartbeats of its messages."""

    def __init__(self) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.published: list[tuple[str, bytes]] = []
        self.is_connected = True
        self.client = self  # type: ignore[assignment]

    async def publish(self, subject: str, payload: bytes = b"", **_more: Any) -> None:  # type: ignore[override]
        self.published.append((subject, payload))

    async def flush(self, seconds: int = 10) -> None:
        del seconds

    def message(self, sequence: int, delivery: int = 1) -> Msg:
        reply = f"$JS.ACK.WEBHOOKS.ingest.{delivery}.{sequence}.{sequence}.1750000000000000000.0"
        return Msg(self, reply=reply)  # type: ignore[arg-type]


def tracked_by(connection: Connection) -> InFlightMessages:
    def report(_event: str, error: Exception) -> None:
        raise error

    return InFlightMessages(connection, report, interval=3)


@on_virtual_time
async def test_a_redelivered_message_is_tracked_once() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    first, again = connection.message(7), connection.message(7, delivery=2)
    in_flight.add([first])
    in_flight.add([again])
    assert len(in_flight) == 1
    heartbeats = asyncio.create_task(in_flight.send_heartbeats())
    await asyncio.sleep(4)
    assert connection.published == [(again.reply, HEARTBEAT)]
    # The acknowledgement of the second delivery also ends the heartbeats of the first.
    await again.ack()
    await asyncio.sleep(3)
    assert connection.published == [(again.reply, HEARTBEAT), (again.reply, b"")]
    heartbeats.cancel()
    assert len(in_flight) == 0


@on_virtual_time
async def test_an_unacknowledged_message_is_naked() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    done, unfinished = connection.message(1), connection.message(2)
    in_flight.add([done, unfinished])
    await done.ack()
    assert await in_flight.nak_all(1.0) == 1
    assert connection.published[-1] == (unfinished.reply, b'-NAK {"delay": 1000000000}')


async def test_acknowledged_messages_are_not_kept_until_the_next_heartbeat() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    seen: list[weakref.ref[Msg]] = []
    for first in range(0, 20 * CLEAR_EVERY, 500):
        batch = [connection.message(first + number) for number in range(1, 501)]
        seen += [weakref.ref(message) for message in batch]
        in_flight.add(batch)
        for message in batch:
            await message.ack()
        del batch, message
    assert len([reference for reference in seen if reference() is not None]) <= CLEAR_EVERY


@on_virtual_time
async def test_no_heartbeat_is_sent_on_a_closed_connection() -> None:
    connection, reported = FakeConnection(), list[str]()
    in_flight = InFlightMessages(
        connection, lambda operation, _error: reported.append(operation), interval=3
    )
    in_flight.add([connection.message(1)])

    async def closed(*_args: Any, **_kwargs: Any) -> None:
        raise nats.errors.ConnectionClosedError

    connection.publish = closed  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        await in_flight.send_heartbeats()
    assert reported == []


class Failing(FakeConnection):
    """A connection on which every publish and flush fails while `error` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.flushed = 0

    async def publish(self, subject: str, payload: bytes = b"", **more: Any) -> None:  # type: ignore[override]
        if self.error is not None:
            raise self.error
        await super().publish(subject, payload, **more)

    async def flush(self, seconds: int = 10) -> None:
        del seconds
        self.flushed += 1
        if self.error is not None:
            raise self.error


@on_virtual_time
@pytest.mark.parametrize("end", [None, RuntimeError, asyncio.CancelledError])
async def test_messages_are_kept_alive_during_the_block_and_naked_at_its_end(
    end: type[BaseException] | None,
) -> None:
    connection, released = FakeConnection(), list[int]()
    in_flight = tracked_by(connection)
    message = connection.message(1)
    in_flight.add([message])
    with nullcontext() if end is None else pytest.raises(end):
        async with in_flight.keeping_alive(1.0, released.append):
            await asyncio.sleep(4)
            if end is not None:
                raise end
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert connection.published == [
        (message.reply, HEARTBEAT),
        (message.reply, b'-NAK {"delay": 1000000000}'),
    ]
    assert released == [1]


@on_virtual_time
@pytest.mark.parametrize("error", [nats.errors.Error(), ConnectionResetError()])
async def test_a_failed_heartbeat_is_reported_and_heartbeats_continue(error: Exception) -> None:
    connection, reported = Failing(), list[str]()
    in_flight = InFlightMessages(
        connection, lambda operation, _error: reported.append(operation), interval=3
    )
    in_flight.add([message := connection.message(1)])
    connection.error = error
    heartbeats = asyncio.create_task(in_flight.send_heartbeats())
    await asyncio.sleep(4)
    connection.error = None
    await asyncio.sleep(3)
    assert reported == ["in_progress"]
    assert connection.published == [(message.reply, HEARTBEAT)]
    heartbeats.cancel()


@on_virtual_time
async def test_no_heartbeats_are_buffered_while_disconnected() -> None:
    """Heartbeats of 2,000 messages would fill nats-py's buffer in a minute, and block acks."""
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    in_flight.add([message := connection.message(1)])
    heartbeats = asyncio.create_task(in_flight.send_heartbeats())
    connection.is_connected = False
    await asyncio.sleep(60)
    assert connection.published == []
    # The first heartbeat is sent at once, before the ack wait ends.
    connection.is_connected = True
    await asyncio.sleep(0.2)
    assert connection.published == [(message.reply, HEARTBEAT)]
    heartbeats.cancel()


def ack_second_message_during_first(connection: FakeConnection) -> list[Msg]:
    """Return three messages; a nak or heartbeat of the first one makes the second one acked."""
    messages = [connection.message(number) for number in (1, 2, 3)]
    publish = connection.publish

    async def slow(subject: str, payload: bytes = b"", **_more: Any) -> None:
        await publish(subject, payload)
        if subject == messages[0].reply:
            await messages[1].ack()

    connection.publish = slow  # type: ignore[method-assign]
    return messages


async def test_a_message_acknowledged_during_nak_all_is_skipped() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    first, second, third = messages = ack_second_message_during_first(connection)
    in_flight.add(messages)
    await in_flight.nak_all(0)
    assert connection.published == [
        (first.reply, b"-NAK"),
        (second.reply, b""),
        (third.reply, b"-NAK"),
    ]


@on_virtual_time
async def test_a_message_acknowledged_during_heartbeats_is_skipped() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    first, second, third = messages = ack_second_message_during_first(connection)
    in_flight.add(messages)
    heartbeats = asyncio.create_task(in_flight.send_heartbeats())
    await asyncio.sleep(4)
    assert connection.published == [
        (first.reply, HEARTBEAT),
        (second.reply, b""),
        (third.reply, HEARTBEAT),
    ]
    heartbeats.cancel()


@on_virtual_time
@pytest.mark.parametrize("error", [nats.errors.TimeoutError(), ConnectionResetError()])
async def test_messages_whose_nak_failed_get_no_heartbeats(error: Exception) -> None:
    connection, reported = Failing(), list[str]()
    in_flight = InFlightMessages(
        connection, lambda operation, _error: reported.append(operation), interval=3
    )
    in_flight.add([connection.message(1)])
    heartbeats = asyncio.create_task(in_flight.send_heartbeats())
    connection.error = error
    assert await in_flight.nak_all(1.0) == 1
    assert reported == ["nak"]
    # No message is in flight, so no request is sent to the server.
    assert await in_flight.nak_all(1.0) == 0
    assert reported == ["nak"]
    connection.error = None
    await asyncio.sleep(10)
    assert connection.published == []
    heartbeats.cancel()


async def test_naks_are_flushed() -> None:
    connection = Failing()
    in_flight = tracked_by(connection)
    in_flight.add([connection.message(1), connection.message(2)])
    await in_flight.nak_all(1.0)
    assert (len(connection.published), connection.flushed) == (2, 1)


async def test_messages_of_a_jetstream_domain_are_distinguished() -> None:
    connection = FakeConnection()
    in_flight = tracked_by(connection)
    for sequence in (7, 8, 7):
        reply = f"$JS.ACK.hub.ACC.WEBHOOKS.ingest.1.{sequence}.{sequence}.1750000000000000000.0.x"
        in_flight.add([Msg(connection, reply=reply)])  # type: ignore[arg-type]
    assert len(in_flight) == 2
