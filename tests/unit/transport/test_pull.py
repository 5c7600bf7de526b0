"""Requests to a consumer: what ends one that is not answered."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.pull import (
    ANSWER_SECONDS,
    BATCH_BYTES,
    LAST_ANSWER_SECONDS,
    RECONNECT_POLL_SECONDS,
    WAIT_SECONDS,
    ConsumerGone,
    Pull,
)
from tests.virtual_time import now, on_virtual_time, settle
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
        self.error: Exception | None = None
        self._has_messages = has_messages

    max_payload = 1024

    def new_inbox(self) -> str:
        return "_INBOX_ingest.a"

    async def hear(self, _subject: str, heard: Any) -> Any:
        self.told = heard
        return self

    async def end(self, *_given: Any) -> None:
        assert not self.has_ended
        self.has_ended = True
        for sequence in self.on_its_way:
            self.told(self.message(sequence))
        if self.error is not None:
            raise self.error

    def status(self, code: str, description: str = "") -> None:
        """Answer the last request in the server's own words."""
        headers = {"Status": code, "Description": description}
        inbox = f"_INBOX_ingest.a.{len(self.asked)}"
        self.told(Msg(self, subject=inbox, headers=headers))  # type: ignore[arg-type]

    def message(self, sequence: int) -> Msg:
        reply = f"$JS.ACK.EVENTS.mine.1.{sequence}.{sequence}.1750000000000000000.0"
        return Msg(self, subject="hogsend.events.x", reply=reply)  # type: ignore[arg-type]

    @property
    def given_back(self) -> list[int]:
        """Sequences of messages that were given back, in order."""
        return [int(subject.split(".")[5]) for subject in self.negative]

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        if payload == b"-NAK" and self.error is not None:
            raise self.error
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
    assert asking.cancelled()
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


async def started(connection: FakeConnection) -> Pull:
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    return pull


async def test_what_is_there_is_handed_out_whole() -> None:
    connection = FakeConnection(has_messages=True)
    pull = await started(connection)
    assert len(await pull.next(3)) == 3
    assert len(connection.asked) == 1


@on_virtual_time
async def test_a_lone_message_is_handed_out_without_another_request() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.told(connection.message(1))
    assert len(await asking) == 1
    assert len(connection.asked) == 1


@on_virtual_time
async def test_behind_the_first_message_comes_what_else_is_there() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.next(3))
    await connection.waiting.wait()
    connection.silent = True
    connection.told(connection.message(1))
    await settle()
    requests = [msgspec.json.decode(one) for one in connection.asked]
    assert [one["batch"] for one in requests] == [3, 1, 2]
    # The server is told for how long: left open, a request would get what another reader waits for.
    assert [one.get("expires") for one in requests] == [None, WAIT_SECONDS * 1e9, None]
    connection.told(connection.message(2))
    connection.told(connection.message(3))
    assert len(await asking) == 3


@on_virtual_time
@pytest.mark.parametrize("gone", [True, False])
async def test_a_message_is_handed_out_though_more_cannot_be_asked_for(gone: bool) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.next(3))
    await connection.waiting.wait()
    connection.silent = True
    connection.told(message := connection.message(1))
    await settle()
    if gone:
        connection.status("409", "Consumer Deleted")
    else:
        connection.stats["reconnects"] += 1
    assert await asking == [message]


@on_virtual_time
async def test_a_connection_that_came_back_before_is_asked() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.stats["reconnects"] += 1
    asking = asyncio.create_task(pull.next(1))
    await asyncio.sleep(2 * RECONNECT_POLL_SECONDS)
    connection.told(message := connection.message(1))
    assert await asking == [message]


NOTHING = (("404", "No Messages"), ("408", "Request Timeout"), ("409", "Exceeded MaxAckPending"))


@on_virtual_time
@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((one, None) for one in NOTHING),
        (("503", ""), ConsumerGone),
        (("409", "Consumer Deleted"), ConsumerGone),
        (("409", "Consumer is push based"), ConsumerGone),
        (("409", "Leadership Change"), nats.errors.Error),
    ],
)
async def test_what_the_server_says_instead_of_a_message(
    status: tuple[str, str], error: type[Exception] | None
) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.status(*status)
    if error is None:
        assert await asking == []
    else:
        with pytest.raises(error):
            await asking


@on_virtual_time
async def test_who_follows_asks_anew_once_its_request_has_ended() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    for requests in (1, 2):
        following = asyncio.create_task(pull.follow(3))
        await settle()
        connection.status("408", "Request Timeout")
        assert await following == []
        assert len(connection.asked) == requests


@on_virtual_time
async def test_who_follows_a_server_that_says_nothing_is_told_so() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
    assert now() == WAIT_SECONDS + ANSWER_SECONDS


async def test_a_message_as_large_as_the_server_takes_is_within_the_limit() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    assert pull.what_is_there(10).max_bytes == BATCH_BYTES
    connection.max_payload = 2 * BATCH_BYTES
    assert pull.what_is_there(10).max_bytes > 2 * BATCH_BYTES


async def test_what_is_not_handed_out_is_given_back_once_when_the_connection_is_closed() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.told(connection.message(1))
    await connection.close()
    assert connection.has_ended
    assert connection.given_back == [1]
    await pull.stop()
    assert connection.given_back == [1]


async def test_a_connection_keeps_nothing_that_was_stopped() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    await pull.stop()
    kept = weakref.ref(pull)
    del pull, connection.told
    gc.collect()
    assert kept() is None


@on_virtual_time
async def test_who_waits_hears_of_a_stop_at_once() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.follow(1))
    await connection.waiting.wait()
    await pull.stop()
    with pytest.raises(nats.errors.ConnectionClosedError):
        await asking
    assert now() == 0


@on_virtual_time
async def test_a_stop_that_is_cancelled_ends_all_the_same() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    asking = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    stopping = asyncio.create_task(pull.stop())
    await settle()
    connection.on_its_way = [1]
    await cancel_all(stopping)
    assert connection.given_back == [1]
    assert asking.done()
    assert isinstance(asking.exception(), nats.errors.ConnectionClosedError)


@pytest.mark.parametrize("error", [nats.errors.ConnectionClosedError(), TimeoutError()])
async def test_a_stop_raises_nothing(error: Exception) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.told(connection.message(1))
    connection.error = nats.errors.ConnectionClosedError()
    await pull.stop()
    # The server does not answer, and takes what is given back.
    connection = FakeConnection()
    pull = await started(connection)
    connection.told(connection.message(1))

    async def end(*_given: Any) -> None:
        raise error

    connection.end = end  # type: ignore[method-assign]
    await pull.stop()
    assert connection.given_back == [1]


async def test_a_stop_that_is_cancelled_as_it_ends_gives_back_what_is_there() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.told(connection.message(1))
    ending = asyncio.Event()

    async def end(*_given: Any) -> None:
        ending.set()
        await asyncio.Event().wait()

    connection.end = end  # type: ignore[method-assign]
    stopping = asyncio.create_task(pull.stop())
    await ending.wait()
    await cancel_all(stopping)
    assert connection.given_back == [1]


@on_virtual_time
async def test_a_request_stays_open_until_it_has_brought_as_many_as_were_asked_for() -> None:
    connection = FakeConnection()
    # It came back before there was a request to lose.
    connection.stats["reconnects"] += 1
    pull = await started(connection)
    for sequence, requests in [(1, 1), (2, 1), (3, 2), (4, 2)]:
        following = asyncio.create_task(pull.follow(2))
        await settle()
        connection.told(message := connection.message(sequence))
        assert await following == [message]
        assert len(connection.asked) == requests


@on_virtual_time
async def test_what_came_before_a_reconnection_is_handed_out_after_it() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    following = asyncio.create_task(pull.follow(3))
    await connection.waiting.wait()
    await cancel_all(following)
    connection.told(message := connection.message(1))
    connection.stats["reconnects"] += 1
    assert await pull.follow(3) == [message]
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
