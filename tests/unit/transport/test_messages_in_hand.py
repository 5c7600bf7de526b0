"""Messages in hand: kept from being delivered again, and given back."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from hogsend.transport.connection import Connection
from hogsend.transport.messages_in_hand import CLEAR_EVERY, MessagesInHand
from tests.virtual_time import on_virtual_time

HEARTBEAT = b"+WPI"


class FakeConnection(Connection):
    """A connection that notes what messages tell JetStream."""

    def __init__(self) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.told: list[tuple[str, bytes]] = []
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
