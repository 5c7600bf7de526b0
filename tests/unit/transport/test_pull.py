"""Pull requests: messages, statuses, lost connections, and stopping without losing a message."""

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
    BATCH_BYTES,
    LAST_REPLY_SECONDS,
    RECONNECT_POLL_SECONDS,
    REPLY_SECONDS,
    WAIT_SECONDS,
    ConsumerGone,
    Pull,
)
from tests.virtual_time import now, on_virtual_time, settle
from tests.waiting import eventually


class FakeConnection(Connection):
    """A connection to a server without messages, which replies at once to `no_wait` requests."""

    def __init__(self, *, has_messages: bool = False) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.client = self  # type: ignore[assignment]
        self.stats = {"reconnects": 0}
        self.waiting = asyncio.Event()
        self.sent: list[bytes] = []
        self.in_transit: list[int] = []
        self.nak_subjects: list[str] = []
        self.silent = False
        self.has_unsubscribed = False
        self.error: Exception | None = None
        self._has_messages = has_messages

    max_payload = 1024

    def new_inbox(self) -> str:
        return "_INBOX_ingest.a"

    async def subscribe_inline(self, _subject: str, on_message: Any) -> Any:
        self.deliver = on_message
        return self

    async def drain_subscription(self, *_args: Any) -> None:
        assert not self.has_unsubscribed
        self.has_unsubscribed = True
        for sequence in self.in_transit:
            self.deliver(self.message(sequence))
        if self.error is not None:
            raise self.error

    def status(self, code: str, description: str = "") -> None:
        """Send a status message for the last request."""
        headers = {"Status": code, "Description": description}
        inbox = f"_INBOX_ingest.a.{len(self.sent)}"
        self.deliver(Msg(self, subject=inbox, headers=headers))  # type: ignore[arg-type]

    def message(self, sequence: int) -> Msg:
        reply = f"$JS.ACK.EVENTS.mine.1.{sequence}.{sequence}.1750000000000000000.0"
        return Msg(self, subject="hogsend.events.x", reply=reply)  # type: ignore[arg-type]

    @property
    def naks(self) -> list[int]:
        """Sequences of the nak'ed messages, in order."""
        return [int(subject.split(".")[5]) for subject in self.nak_subjects]

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        if payload == b"-NAK" and self.error is not None:
            raise self.error
        if payload == b"-NAK":
            self.nak_subjects.append(subject)
            return
        self.sent.append(payload)
        if self._has_messages:
            for _ in range(msgspec.json.decode(payload)["batch"]):
                self.deliver(Msg(self, subject="hogsend.credentials.x.changed", data=b"{}"))  # type: ignore[arg-type]
        elif b"no_wait" in payload and not self.silent:
            self.deliver(Msg(self, subject=reply, headers={"Status": "404"}))  # type: ignore[arg-type]
        else:
            self.waiting.set()


@on_virtual_time
async def test_a_request_ends_soon_when_the_connection_is_closed() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    reading = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    connection.closed = True
    async with asyncio.timeout(2 * RECONNECT_POLL_SECONDS):
        with pytest.raises(nats.errors.TimeoutError):
            await reading


@on_virtual_time
async def test_a_request_lost_by_a_reconnect_fails_at_once() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    reading = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    sent_at = asyncio.get_running_loop().time()
    connection.stats["reconnects"] += 1
    with pytest.raises(nats.errors.TimeoutError):
        await reading
    # The server has forgotten the request, whose timeout is seconds later.
    assert asyncio.get_running_loop().time() - sent_at <= RECONNECT_POLL_SECONDS


@pytest.mark.parametrize(("batch", "requests"), [(1, 1), (2, 2)])
async def test_a_batch_of_one_message_needs_one_request(batch: int, requests: int) -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    reading = asyncio.create_task(pull.next(batch))
    await connection.waiting.wait()
    assert len(connection.sent) == requests
    await cancel_all(reading)


async def test_one_request_stays_open_for_several_messages() -> None:
    connection = FakeConnection(has_messages=True)
    pull = Pull(connection, "CREDENTIALS", "mine")
    await pull.start()
    assert [len(await pull.follow(3)) for _ in range(2)] == [3, 3]
    assert len(connection.sent) == 2


@on_virtual_time
async def test_follow_fails_at_the_next_call_after_a_reconnect() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "CREDENTIALS", "mine")
    await pull.start()
    waiting = asyncio.create_task(pull.follow(3))
    await connection.waiting.wait()
    await cancel_all(waiting)
    connection.stats["reconnects"] += 1
    # The request has expired in the meantime, so a new request would get a reply.
    await asyncio.sleep(60)
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
    assert len(connection.sent) == 1


async def test_a_message_that_arrives_during_stop_is_naked() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    reading = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.in_transit = [1]
    await pull.stop()
    assert connection.naks == [1]
    # The waiting call does not return the message as well.
    with pytest.raises(nats.errors.ConnectionClosedError):
        await reading


async def test_a_first_message_is_naked_when_the_request_for_more_is_cancelled() -> None:
    connection = FakeConnection()
    pull = Pull(connection, "EVENTS", "mine")
    await pull.start()
    reading = asyncio.create_task(pull.next(10))
    await connection.waiting.wait()
    # The server does not reply from now on.
    connection.silent = True
    connection.deliver(connection.message(1))
    await eventually(lambda: len(connection.sent) == 3)
    connection.deliver(connection.message(2))
    await cancel_all(reading)
    assert reading.cancelled()
    await pull.stop()
    assert connection.naks == [1, 2]


@on_virtual_time
async def test_stop_waits_a_limited_time_for_the_reply_to_an_open_request() -> None:
    for arrives in (True, False):
        connection = FakeConnection()
        pull = Pull(connection, "EVENTS", "mine")
        await pull.start()
        reading = asyncio.create_task(pull.next(1))
        await connection.waiting.wait()
        stopping = asyncio.create_task(pull.stop())
        await settle()
        assert not connection.has_unsubscribed
        if arrives:
            connection.deliver(connection.message(1))
            await settle()
        else:
            await asyncio.sleep(LAST_REPLY_SECONDS)
            await settle()
        assert connection.has_unsubscribed
        assert connection.naks == [1] * arrives
        await stopping
        with pytest.raises(nats.errors.ConnectionClosedError):
            await reading


@on_virtual_time
async def test_stop_without_an_open_request_does_not_wait() -> None:
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


async def test_one_request_returns_all_available_messages() -> None:
    connection = FakeConnection(has_messages=True)
    pull = await started(connection)
    assert len(await pull.next(3)) == 3
    assert len(connection.sent) == 1


@on_virtual_time
async def test_a_single_message_is_returned_without_another_request() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.deliver(connection.message(1))
    assert len(await reading) == 1
    assert len(connection.sent) == 1


@on_virtual_time
async def test_available_messages_are_returned_with_the_first_one() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.next(3))
    await connection.waiting.wait()
    connection.silent = True
    connection.deliver(connection.message(1))
    await settle()
    requests = [msgspec.json.decode(body) for body in connection.sent]
    assert [request["batch"] for request in requests] == [3, 1, 2]
    # A waiting request must expire: an open one would receive messages meant for another reader.
    assert [request.get("expires") for request in requests] == [None, WAIT_SECONDS * 1e9, None]
    connection.deliver(connection.message(2))
    connection.deliver(connection.message(3))
    assert len(await reading) == 3


@on_virtual_time
@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_message_is_returned_although_the_request_for_more_messages_fails(
    is_deleted: bool,
) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.next(3))
    await connection.waiting.wait()
    connection.silent = True
    connection.deliver(message := connection.message(1))
    await settle()
    if is_deleted:
        connection.status("409", "Consumer Deleted")
    else:
        connection.stats["reconnects"] += 1
    assert await reading == [message]


@on_virtual_time
async def test_a_reconnect_before_the_request_does_not_fail_the_request() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.stats["reconnects"] += 1
    reading = asyncio.create_task(pull.next(1))
    await asyncio.sleep(2 * RECONNECT_POLL_SECONDS)
    connection.deliver(message := connection.message(1))
    assert await reading == [message]


WITHOUT_ERROR = (
    ("404", "No Messages"),
    ("408", "Request Timeout"),
    ("409", "Exceeded MaxAckPending"),
)


@on_virtual_time
@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, None) for status in WITHOUT_ERROR),
        (("503", ""), ConsumerGone),
        (("409", "Consumer Deleted"), ConsumerGone),
        (("409", "Consumer is push based"), ConsumerGone),
        (("409", "Leadership Change"), nats.errors.Error),
    ],
)
async def test_a_status_ends_the_request(
    status: tuple[str, str], error: type[Exception] | None
) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    connection.status(*status)
    if error is None:
        assert await reading == []
    else:
        with pytest.raises(error):
            await reading


@on_virtual_time
async def test_follow_sends_a_new_request_after_the_previous_one_has_expired() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    for requests in (1, 2):
        following = asyncio.create_task(pull.follow(3))
        await settle()
        connection.status("408", "Request Timeout")
        assert await following == []
        assert len(connection.sent) == requests


@on_virtual_time
async def test_follow_times_out_without_a_reply() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
    assert now() == WAIT_SECONDS + REPLY_SECONDS


async def test_the_byte_limit_allows_the_largest_message_of_the_server() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    assert pull.no_wait_request(10).max_bytes == BATCH_BYTES
    connection.max_payload = 2 * BATCH_BYTES
    assert pull.no_wait_request(10).max_bytes > 2 * BATCH_BYTES


async def test_a_close_naks_each_message_that_was_not_returned_once() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.deliver(connection.message(1))
    await connection.close()
    assert connection.has_unsubscribed
    assert connection.naks == [1]
    await pull.stop()
    assert connection.naks == [1]


async def test_a_connection_keeps_no_reference_to_a_stopped_pull() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    await pull.stop()
    reference = weakref.ref(pull)
    del pull, connection.deliver
    gc.collect()
    assert reference() is None


@on_virtual_time
async def test_stop_ends_a_waiting_call_at_once() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.follow(1))
    await connection.waiting.wait()
    await pull.stop()
    with pytest.raises(nats.errors.ConnectionClosedError):
        await reading
    assert now() == 0


@on_virtual_time
async def test_a_cancelled_stop_still_naks_and_ends_the_waiting_call() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    reading = asyncio.create_task(pull.next(1))
    await connection.waiting.wait()
    stopping = asyncio.create_task(pull.stop())
    await settle()
    connection.in_transit = [1]
    await cancel_all(stopping)
    assert connection.naks == [1]
    assert reading.done()
    assert isinstance(reading.exception(), nats.errors.ConnectionClosedError)


@pytest.mark.parametrize("error", [nats.errors.ConnectionClosedError(), TimeoutError()])
async def test_stop_raises_no_error_of_the_connection(error: Exception) -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.deliver(connection.message(1))
    connection.error = nats.errors.ConnectionClosedError()
    await pull.stop()
    # The server does not reply to the unsubscribe, but receives the nak.
    connection = FakeConnection()
    pull = await started(connection)
    connection.deliver(connection.message(1))

    async def drain(*_args: Any) -> None:
        raise error

    connection.drain_subscription = drain  # type: ignore[method-assign]
    await pull.stop()
    assert connection.naks == [1]


async def test_a_stop_that_is_cancelled_while_it_unsubscribes_still_naks() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    connection.deliver(connection.message(1))
    draining = asyncio.Event()

    async def drain(*_args: Any) -> None:
        draining.set()
        await asyncio.Event().wait()

    connection.drain_subscription = drain  # type: ignore[method-assign]
    stopping = asyncio.create_task(pull.stop())
    await draining.wait()
    await cancel_all(stopping)
    assert connection.naks == [1]


@on_virtual_time
async def test_follow_keeps_its_request_open_until_the_batch_is_delivered() -> None:
    connection = FakeConnection()
    # This reconnect is before the first request, so no request is lost.
    connection.stats["reconnects"] += 1
    pull = await started(connection)
    for sequence, requests in [(1, 1), (2, 1), (3, 2), (4, 2)]:
        following = asyncio.create_task(pull.follow(2))
        await settle()
        connection.deliver(message := connection.message(sequence))
        assert await following == [message]
        assert len(connection.sent) == requests


@on_virtual_time
async def test_a_message_received_before_a_reconnect_is_returned_after_it() -> None:
    connection = FakeConnection()
    pull = await started(connection)
    following = asyncio.create_task(pull.follow(3))
    await connection.waiting.wait()
    await cancel_all(following)
    connection.deliver(message := connection.message(1))
    connection.stats["reconnects"] += 1
    assert await pull.follow(3) == [message]
    with pytest.raises(nats.errors.TimeoutError):
        await pull.follow(3)
