"""Requests to a consumer: what ends one that is not answered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.pull import LAST_ANSWER_SECONDS, RECONNECT_POLL_SECONDS, Pull
from tests.virtual_time import on_virtual_time, settle
from tests.waiting import eventually


class FakeConnection(Connection):
    """A connection to a server that has no message; it answers requests that do not wait."""

    def __init__(self, *, has_messages: bool = False) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.client = self  # type: ignore[assignment]
        self.stats = {"reconnects": 0}
        self.waiting = asyncio.Event()
        self.asked: list[bytes] = []
        self.on_its_way: list[int] = []
        self.negative: list[str] = []
        self.silent = False
        self.has_ended = False
        self._has_messages = has_messages

    @property
    def max_payload(self) -> int:
        return 1024

    def new_inbox(self) -> str:
        return "_INBOX_ingest.a"

    async def hear(self, _subject: str, heard: Any) -> Any:
        self.told = heard
        return self

    async def end(self, *_given: Any) -> None:
        self.has_ended = True
        for sequence in self.on_its_way:
            self.told(self.message(sequence))

    def message(self, sequence: int) -> Msg:
        reply = f"$JS.ACK.EVENTS.mine.1.{sequence}.{sequence}.1750000000000000000.0"
        return Msg(self, subject="hogsend.events.x", reply=reply)  # type: ignore[arg-type]

    @property
    def given_back(self) -> list[int]:
        """Sequences of messages that were given back, in order."""
        return [int(subject.split(".")[5]) for subject in self.negative]

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        if payload == b"-NAK":
            self.negative.append(subject)
            return
        self.asked.append(payload)
        if self._has_messages:
            for _ in range(msgspec.json.decode(payload)["batch"]):
                self.told(Msg(self, subject="hogsend.credentials.x.changed", data=b"{}"))  # type: ignore[arg-type]
        elif b"no_wait" in payload and not self.silent:
            self.told(Msg(self, subject=reply, headers={"Status": "404"}))  # type: ignore[arg-type]
        else:
            self.waiting.set()


@on_virtual_time
async def test_a_request_ends_soon_when_the_connection_is_closed() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    asking = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    connection.closed = True
    async with asyncio.timeout(2 * RECONNECT_POLL_SECONDS):
        with pytest.raises(nats.errors.TimeoutError):
            await asking


@on_virtual_time
async def test_a_request_that_a_reconnection_lost_is_given_up_at_once() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    asking = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    asked_at = asyncio.get_running_loop().time()
    connection.stats["reconnects"] += 1
    with pytest.raises(nats.errors.TimeoutError):
        await asking
    # The server has forgotten it; its time would have been over seconds later.
    assert asyncio.get_running_loop().time() - asked_at <= RECONNECT_POLL_SECONDS


@pytest.mark.parametrize(("batch", "requests"), [(1, 1), (2, 2)])
async def test_who_takes_one_message_at_a_time_asks_once_for_it(batch: int, requests: int) -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    asking = asyncio.create_task(pull.next(batch))
    await connection.waiting.wait()
    assert len(connection.asked) == requests
    await cancel_all(asking)


async def test_one_request_stays_open_for_several_messages() -> None:
    connection = FakeConnection(has_messages=True)
    pull = Pull(connection, "CREDENTIALS", "mine")
    await pull.start()
    assert [len(await pull.follow(3)) for _ in range(2)] == [3, 3]
    assert len(connection.asked) == 2


@on_virtual_time
async def test_who_follows_notices_a_reconnection_however_late_it_asks() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "CREDENTIALS", "mine")
    await pull.start()
    waiting = asyncio.create_task(pull.follow(3))
    await connection.waiting.wait()
    await cancel_all(waiting)
    connection.stats["reconnects"] += 1
    # Its request would be over by now, and another one be answered.
    await asyncio.sleep(60)
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
    assert len(connection.asked) == 1


async def test_what_comes_while_it_stops_is_given_back() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    asking = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.on_its_way = [1]
    await pull.stop()
    assert connection.given_back == [1]
    # Who had asked for it has not got it, too.
    with pytest.raises(nats.errors.ConnectionClosedError):
        await asking


async def test_a_message_whose_reader_is_cancelled_while_more_is_asked_for_is_given_back() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    asking = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    # Nothing more is answered from now on.
    connection.silent = True
    connection.told(connection.message(1))
    await eventually(lambda: len(connection.asked) == 3)
    connection.told(connection.message(2))
    await cancel_all(asking)
    await pull.stop()
    assert connection.given_back == [1, 2]


@on_virtual_time
async def test_a_stop_waits_for_the_answer_to_an_open_request_and_not_for_long() -> None:
    for comes in (True, False):
        connection = FakeConnection()
        pull = Pull(connection, "EVENTS", "mine")
        await pull.start()
        asking = asyncio.create_task(pull.next(1))
        await connection.waiting.wait()
        stopping = asyncio.create_task(pull.stop())
        await settle()
        assert not connection.has_ended
        if comes:
            connection.told(connection.message(1))
            await settle()
        else:
            await asyncio.sleep(LAST_ANSWER_SECONDS)
            await settle()
        assert connection.has_ended
        assert connection.given_back == [1] * comes
        await stopping
        with pytest.raises(nats.errors.ConnectionClosedError):
            await asking


@on_virtual_time
async def test_a_stop_between_two_requests_waits_for_nothing() -> None:
    connection = FakeConnection(has_messages=True)
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    assert len(await pull.next(1)) == 1
    stopping = asyncio.create_task(pull.stop())
    await settle()
    assert stopping.done()
