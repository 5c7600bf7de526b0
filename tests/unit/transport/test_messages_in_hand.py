"""Messages in hand: kept from being delivered again, and given back."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import nullcontext
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.transport.connection import Connection
from hogsend.transport.messages_in_hand import CLEAR_EVERY, MessagesInHand
from tests.virtual_time import on_virtual_time, settle

HEARTBEAT = b"+WPI"


class FakeConnection(Connection):
    """A connection that notes what messages tell JetStream."""

    def __init__(self) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.told: list[tuple[str, bytes]] = []
        self.is_connected = True
        self.client = self  # type: ignore[assignment]

    async def publish(self, subject: str, payload: bytes = b"", **_more: Any) -> None:  # type: ignore[override]
        self.told.append((subject, payload))

    async def flush(self, seconds: int = 10) -> None:
        del seconds

    def message(self, sequence: int, delivery: int = 1) -> Msg:
        reply = f"$JS.ACK.WEBHOOKS.ingest.{delivery}.{sequence}.{sequence}.1750000000000000000.0"
        return Msg(self, reply=reply)  # type: ignore[arg-type]


def in_hand(connection: Connection) -> MessagesInHand:
    def report(_what: str, error: Exception) -> None:
        raise error

    return MessagesInHand(connection, report, interval=3)


@on_virtual_time
async def test_a_message_that_is_delivered_again_is_in_hand_once() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    first, again = connection.message(7), connection.message(7, delivery=2)
    held.take([first])
    held.take([again])
    assert len(held) == 1
    beating = asyncio.create_task(held.keep_alive())
    await asyncio.sleep(4)
    assert connection.told == [(again.reply, HEARTBEAT)]
    # Acknowledging the second delivery ends it; nothing of the first is left.
    await again.ack()
    await asyncio.sleep(3)
    assert connection.told == [(again.reply, HEARTBEAT), (again.reply, b"")]
    beating.cancel()
    assert len(held) == 0


@on_virtual_time
async def test_what_is_not_acknowledged_is_given_back() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    done, left = connection.message(1), connection.message(2)
    held.take([done, left])
    await done.ack()
    assert await held.nak_all(1.0) == 1
    assert connection.told[-1] == (left.reply, b'-NAK {"delay": 1000000000}')


async def test_acknowledged_messages_are_not_kept_until_the_next_heartbeat() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    seen: list[weakref.ref[Msg]] = []
    for first in range(0, 20 * CLEAR_EVERY, 500):
        batch = [connection.message(first + number) for number in range(1, 501)]
        seen += [weakref.ref(message) for message in batch]
        held.take(batch)
        for message in batch:
            await message.ack()
        del batch, message
    assert len([one for one in seen if one() is not None]) <= CLEAR_EVERY


@on_virtual_time
async def test_nothing_is_said_on_a_connection_that_was_closed() -> None:
    connection, reported = FakeConnection(), list[str]()
    held = MessagesInHand(connection, lambda what, _error: reported.append(what), interval=3)
    held.take([connection.message(1)])

    async def closed(*_given: Any, **_more: Any) -> None:
        raise nats.errors.ConnectionClosedError

    connection.publish = closed  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        await held.keep_alive()
    assert reported == []


class Failing(FakeConnection):
    """A connection on which everything fails that is told, while `error` is set."""

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
async def test_what_is_held_is_kept_alive_for_as_long_as_the_block_and_then_given_back(
    end: type[BaseException] | None,
) -> None:
    connection, returned = FakeConnection(), list[int]()
    held = in_hand(connection)
    message = connection.message(1)
    held.take([message])
    with nullcontext() if end is None else pytest.raises(end):
        async with held.held(1.0, returned.append):
            await asyncio.sleep(4)
            if end is not None:
                raise end
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert connection.told == [
        (message.reply, HEARTBEAT),
        (message.reply, b'-NAK {"delay": 1000000000}'),
    ]
    assert returned == [1]


@on_virtual_time
@pytest.mark.parametrize("error", [nats.errors.Error(), ConnectionResetError()])
async def test_a_heartbeat_that_fails_is_reported_and_not_the_last(error: Exception) -> None:
    connection, reported = Failing(), list[str]()
    held = MessagesInHand(connection, lambda what, _error: reported.append(what), interval=3)
    held.take([message := connection.message(1)])
    connection.error = error
    beating = asyncio.create_task(held.keep_alive())
    await asyncio.sleep(4)
    connection.error = None
    await asyncio.sleep(3)
    assert reported == ["in_progress"]
    assert connection.told == [(message.reply, HEARTBEAT)]
    beating.cancel()


@on_virtual_time
async def test_heartbeats_take_no_room_from_acknowledgements_while_nats_is_away() -> None:
    """Those of 2,000 messages fill NATS' buffer within a minute; then it takes nothing more."""
    connection = FakeConnection()
    held = in_hand(connection)
    held.take([message := connection.message(1)])
    beating = asyncio.create_task(held.keep_alive())
    connection.is_connected = False
    await asyncio.sleep(60)
    assert connection.told == []
    # At once: what is not heard of for long is delivered again.
    connection.is_connected = True
    await asyncio.sleep(0.2)
    assert connection.told == [(message.reply, HEARTBEAT)]
    beating.cancel()


def acknowledged_meanwhile(connection: FakeConnection) -> list[Msg]:
    """Three messages, the second of which is acknowledged once something is said of the first."""
    messages = [connection.message(number) for number in (1, 2, 3)]
    publish = connection.publish

    async def slow(subject: str, payload: bytes = b"", **_more: Any) -> None:
        await publish(subject, payload)
        if subject == messages[0].reply:
            await messages[1].ack()

    connection.publish = slow  # type: ignore[method-assign]
    return messages


async def test_a_message_that_is_acknowledged_meanwhile_costs_no_other_its_nak() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    first, second, third = messages = acknowledged_meanwhile(connection)
    held.take(messages)
    await held.nak_all(0)
    assert connection.told == [(first.reply, b"-NAK"), (second.reply, b""), (third.reply, b"-NAK")]


@on_virtual_time
async def test_a_message_that_is_acknowledged_meanwhile_costs_no_other_its_heartbeat() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    first, second, third = messages = acknowledged_meanwhile(connection)
    held.take(messages)
    beating = asyncio.create_task(held.keep_alive())
    await asyncio.sleep(4)
    assert connection.told == [
        (first.reply, HEARTBEAT),
        (second.reply, b""),
        (third.reply, HEARTBEAT),
    ]
    beating.cancel()


@on_virtual_time
@pytest.mark.parametrize("error", [nats.errors.TimeoutError(), ConnectionResetError()])
async def test_what_could_not_be_given_back_is_not_kept_alive(error: Exception) -> None:
    connection, reported = Failing(), list[str]()
    held = MessagesInHand(connection, lambda what, _error: reported.append(what), interval=3)
    held.take([connection.message(1)])
    beating = asyncio.create_task(held.keep_alive())
    connection.error = error
    assert await held.nak_all(1.0) == 1
    assert reported == ["nak"]
    # Nothing is in hand, and the server is not asked for anything.
    assert await held.nak_all(1.0) == 0
    assert reported == ["nak"]
    connection.error = None
    await asyncio.sleep(10)
    assert connection.told == []
    beating.cancel()


async def test_what_is_given_back_is_sent_before_anything_ends() -> None:
    connection = Failing()
    held = in_hand(connection)
    held.take([connection.message(1), connection.message(2)])
    await held.nak_all(1.0)
    assert (len(connection.told), connection.flushed) == (2, 1)


async def test_what_is_forgotten_is_not_given_back() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    kept, forgotten = connection.message(1), connection.message(2)
    held.take([kept, forgotten])
    held.forget([forgotten, connection.message(3)])
    assert await held.nak_all(1.0) == 1
    assert [subject for subject, _ in connection.told] == [kept.reply]


async def test_messages_of_a_domain_are_told_apart() -> None:
    connection = FakeConnection()
    held = in_hand(connection)
    for sequence in (7, 8, 7):
        reply = f"$JS.ACK.hub.ACC.WEBHOOKS.ingest.1.{sequence}.{sequence}.1750000000000000000.0.x"
        held.take([Msg(connection, reply=reply)])  # type: ignore[arg-type]
    assert len(held) == 2
