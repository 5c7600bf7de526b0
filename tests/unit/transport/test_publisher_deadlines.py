"""Deadlines of the publisher, with a fake NATS client and a clock that tests set."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import nats.errors
import pytest

from hogsend.contract.errors import Forbidden, TooLarge, Unavailable
from hogsend.service.tasks import cancel_all
from hogsend.transport import publisher as module
from hogsend.transport.hpub import encode_headers
from hogsend.transport.publisher import OutgoingMessage, Publisher
from tests.waiting import PATIENCE_SECONDS, eventually

MESSAGE = OutgoingMessage("hogsend.events.Paid", b"{}", {"Nats-Msg-Id": "1"})


class Ack:
    """An acknowledgement, with the fields that the publisher reads."""

    def __init__(self, subject: str, data: bytes = b'{"stream":"EVENTS","seq":1}') -> None:
        self.subject = subject
        self.data = data


class FakeClient:
    """Records what is written, and delivers the acknowledgements that a test sends."""

    def __init__(self) -> None:
        self.is_connected = True
        self.max_payload = 1000
        self.written: list[bytes] = []
        self.on_message: Callable[[Any], None] | None = None
        self.error: Exception | None = None
        self._pending: list[bytes] = []
        self._pending_data_size = 0
        self._transport = self

    def new_inbox(self) -> str:
        return "_INBOX_test.1"

    async def subscribe_inline(self, _subject: str, on_message: Callable[[Any], None]) -> None:
        self.on_message = on_message

    def writelines(self, commands: Sequence[bytes]) -> None:
        self.written += commands

    async def drain(self) -> None:
        if self.error is not None:
            raise self.error

    async def acknowledge(self, command: bytes, data: bytes | None = None) -> None:
        reply = command.split(b" ")[2].decode()
        assert self.on_message is not None
        self.on_message(Ack(reply) if data is None else Ack(reply, data))


class Clock:
    """The event loop's clock and timers, both advanced by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("asyncio.get_running_loop", lambda: FakeLoop(self, loop))

    def fire(self, *, after: float) -> None:
        """Advance the clock by `after` seconds, and fire the next timer."""
        self.now += after
        _, callback = self.timers.pop(0)
        callback()


class FakeLoop:
    """The methods of an event loop that the publisher uses."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop

    def time(self) -> float:
        return self._clock.now

    def create_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        due_at = self._clock.now + delay
        self._clock.timers.append((due_at, callback))
        return FakeTimer(due_at)


class FakeTimer:
    """A timer that reports when it is due."""

    def __init__(self, due_at: float) -> None:
        self._due_at = due_at

    def when(self) -> float:
        return self._due_at


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def publishing(client: FakeClient, within: float) -> asyncio.Task[None]:
    publisher = Publisher(client)  # type: ignore[arg-type]
    return asyncio.create_task(publisher.publish(MESSAGE, within=within))


SWEEPS = 13
"""Sweeps on time after which a deadline of 50 ms has certainly passed."""


async def test_a_message_that_is_not_acknowledged_in_time_is_unavailable(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    task = publishing(client, within=0.05)
    await eventually(lambda: bool(client.written))
    for _ in range(SWEEPS - 1):
        clock.fire(after=module.SWEEP_SECONDS)
    assert not task.done()
    clock.fire(after=module.SWEEP_SECONDS)
    clock.fire(after=module.SWEEP_SECONDS)
    with pytest.raises(Unavailable):
        await task


@pytest.mark.parametrize("lag", [0.009, 0.1, 1.0])
async def test_lag_of_the_event_loop_does_not_count_as_jetstreams_time(
    lag: float, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    task = publishing(client, within=0.05)
    await eventually(lambda: bool(client.written))
    sweeps = min(SWEEPS - 1, int(module.MAX_LAG_SECONDS / lag))
    for _ in range(sweeps):
        clock.fire(after=module.SWEEP_SECONDS + lag)
    await client.acknowledge(client.written[0])
    await task


async def test_an_ack_that_has_arrived_is_read_after_lag_just_before_the_deadline(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    task = publishing(client, within=0.05)
    await eventually(lambda: bool(client.written))
    for _ in range(9):
        clock.fire(after=module.SWEEP_SECONDS)
    for delay in (1.0, module.SWEEP_SECONDS, module.SWEEP_SECONDS):
        clock.fire(after=delay)
    await client.acknowledge(client.written[0])
    await task


async def test_earlier_lag_does_not_extend_the_deadline_of_a_later_message(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    publisher = Publisher(client)  # type: ignore[arg-type]
    first = asyncio.create_task(publisher.publish(MESSAGE, within=0.05))
    await eventually(lambda: bool(client.written))
    clock.fire(after=1.0)
    await client.acknowledge(client.written[0])
    await first
    second = asyncio.create_task(publisher.publish(MESSAGE, within=0.05))
    await eventually(lambda: len(client.written) == 2)
    for _ in range(SWEEPS + 1):
        clock.fire(after=module.SWEEP_SECONDS)
    await eventually(second.done)
    with pytest.raises(Unavailable):
        await second


async def test_a_publish_times_out_in_a_loop_that_always_lags(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    task = publishing(client, within=0.05)
    await eventually(lambda: bool(client.written))
    clock.fire(after=module.MAX_LAG_SECONDS)
    assert not task.done()
    clock.fire(after=0.1)
    await eventually(task.done)
    with pytest.raises(Unavailable):
        await task


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError(), AttributeError()])
async def test_a_connection_lost_while_writing_is_unavailable(
    client: FakeClient, error: Exception
) -> None:
    client.error = error
    with pytest.raises(Unavailable):
        await publishing(client, within=60)


async def test_every_caller_fails_when_the_connection_is_lost_during_a_write(
    client: FakeClient,
) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]

    async def breaks() -> None:
        abandoned.cancel()
        await asyncio.wait([abandoned])
        raise ConnectionResetError

    client.drain = breaks  # type: ignore[method-assign]
    publishing: list[Awaitable[object]] = [
        publisher.publish_all([MESSAGE, MESSAGE], within=3600),
        publisher.publish(MESSAGE, within=3600),
        publisher.publish(MESSAGE, within=3600),
    ]
    first, abandoned, last = (asyncio.ensure_future(call) for call in publishing)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for publish in (first, last):
            with pytest.raises(Unavailable):
                await publish


async def test_messages_published_during_a_write_are_written_after_it(
    client: FakeClient,
) -> None:
    publisher, started = Publisher(client), asyncio.Event()  # type: ignore[arg-type]

    async def slow() -> None:
        started.set()
        for _ in range(3):
            await asyncio.sleep(0)

    client.drain = slow  # type: ignore[method-assign]
    batch = [msgspec.structs.replace(MESSAGE, subject=f"hogsend.events.{name}") for name in "ab"]
    first = asyncio.create_task(publisher.publish_all(batch))
    await started.wait()
    second = asyncio.create_task(publisher.publish(MESSAGE))
    await eventually(lambda: len(client.written) == 3)
    subjects = [command.split(b" ")[1].decode() for command in client.written]
    assert subjects == [*(message.subject for message in batch), MESSAGE.subject]
    await cancel_all(first, second)


@pytest.mark.parametrize("lost", [True, False])
async def test_abandoned_messages_and_those_without_a_connection_are_not_written(
    client: FakeClient, lost: bool
) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    started, has_space = asyncio.Event(), asyncio.Event()

    async def full() -> None:
        started.set()
        await has_space.wait()

    client.drain = full  # type: ignore[method-assign]
    first = asyncio.create_task(publisher.publish_all([MESSAGE, MESSAGE]))
    await started.wait()
    second = asyncio.create_task(publisher.publish(MESSAGE))
    await eventually(lambda: publisher._next_token == 3)
    if lost:
        client.is_connected = False
    else:
        second.cancel()
        await asyncio.wait({second})
    has_space.set()
    await eventually(lambda: publisher._writing is None or publisher._writing.done())
    assert len(client.written) == 2
    await cancel_all(first, second)


@pytest.mark.parametrize("sweep", ["first", "last"])
async def test_a_frozen_process_does_not_write_expired_messages(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, sweep: str
) -> None:
    clock = Clock(monkeypatch)
    publisher = Publisher(client)  # type: ignore[arg-type]
    frozen = asyncio.create_task(publisher.publish_all([MESSAGE, MESSAGE], within=5.0))
    patient = asyncio.create_task(publisher.publish(MESSAGE, within=3600.0))
    await asyncio.sleep(0)
    # Both calls have queued their messages; the write runs in the loop's next iteration.
    assert (publisher._next_token, client.written) == (3, [])
    if sweep == "first":
        clock.fire(after=60.0)
    else:
        clock.now += 60.0
    with pytest.raises(Unavailable, match="in time"):
        await frozen
    await eventually(lambda: bool(client.written))
    assert len(client.written) == 1
    await client.acknowledge(client.written[0])
    await patient


async def test_the_deadline_is_checked_before_each_chunk_of_a_large_batch(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(module, "WRITE_BYTES", 1)

    async def freezes() -> None:
        clock.now += 60.0

    client.drain = freezes  # type: ignore[method-assign]
    publisher = Publisher(client)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="in time"):
        await publisher.publish_all([MESSAGE, MESSAGE], within=5.0)
    await eventually(lambda: publisher._writing is None or publisher._writing.done())
    assert len(client.written) == 1


async def test_a_process_frozen_during_a_batch_does_not_publish_its_remaining_messages(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(module, "IN_FLIGHT", 1)
    publisher = Publisher(client)  # type: ignore[arg-type]
    task = asyncio.create_task(publisher.publish_all([MESSAGE, MESSAGE], within=5.0))
    await eventually(lambda: bool(client.written))
    # The acknowledgement has arrived by then, and is processed before any deadline is checked.
    clock.now += 60.0
    await client.acknowledge(client.written[0])
    with pytest.raises(Unavailable, match="in time"):
        await task
    assert len(client.written) == 1


async def test_nats_pys_pending_data_is_written_first_and_once(client: FakeClient) -> None:
    client._pending, client._pending_data_size = [b"SUB"], 3
    task = publishing(client, within=3600)
    await eventually(lambda: bool(client.written))
    assert (client.written[0], len(client.written)) == (b"SUB", 2)
    assert (client._pending, client._pending_data_size) == ([], 0)
    await client.acknowledge(client.written[1])
    await task


async def test_nats_pys_pending_data_is_kept_when_the_write_fails(client: FakeClient) -> None:
    def refuse(_commands: Sequence[bytes]) -> None:
        raise RuntimeError

    client.writelines = refuse  # type: ignore[assignment,method-assign]
    client._pending, client._pending_data_size = [b"SUB"], 3
    with pytest.raises(Unavailable):
        await publishing(client, within=60)
    assert (client._pending, client._pending_data_size) == ([b"SUB"], 3)


async def test_a_late_acknowledgement_is_ignored(client: FakeClient) -> None:
    task = publishing(client, within=0.001)
    with pytest.raises(Unavailable):
        await task
    await client.acknowledge(client.written[0])


async def test_a_batch_with_one_unacknowledged_message_is_unavailable(
    client: FakeClient,
) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    task = asyncio.create_task(publisher.publish_all([MESSAGE, MESSAGE, MESSAGE], within=0.05))
    await eventually(lambda: len(client.written) == 3)
    await client.acknowledge(client.written[0])
    await client.acknowledge(client.written[2])
    with pytest.raises(Unavailable):
        await task


async def test_headers_of_the_callers_context_are_added(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    publisher.inject = lambda headers: headers.update(traceparent="00-a-b-01")
    task = asyncio.create_task(publisher.publish(MESSAGE))
    await eventually(lambda: bool(client.written))
    await client.acknowledge(client.written[0])
    await task
    assert b"traceparent: 00-a-b-01\r\n" in client.written[0]
    assert "traceparent" not in MESSAGE.headers


async def test_a_publish_in_flight_fails_when_the_connection_is_closed(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    task = asyncio.create_task(publisher.publish(MESSAGE, within=3600))
    await eventually(lambda: bool(client.written))
    publisher.connection_closed()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unavailable, match="was closed"):
            await task
        # The next publish starts the timer for deadlines again.
        with pytest.raises(Unavailable, match="in time"):
            await publisher.publish(MESSAGE, within=0.01)


async def test_the_next_connection_gets_an_ack_subscription_of_its_own(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    may_continue, subscribe = asyncio.Event(), client.subscribe_inline

    async def slow(subject: str, on_message: Callable[[Any], None]) -> None:
        await may_continue.wait()
        await subscribe(subject, on_message)

    client.subscribe_inline = slow  # type: ignore[assignment,method-assign]
    late = asyncio.create_task(publisher.publish(MESSAGE))
    await asyncio.sleep(0)
    publisher.connection_closed()
    may_continue.set()
    # Its ack subscription belongs to the closed connection.
    with pytest.raises(Unavailable, match="was closed"):
        await late
    client.on_message = None
    task = asyncio.create_task(publisher.publish(MESSAGE, within=3600))
    await eventually(lambda: bool(client.written))
    await client.acknowledge(client.written[0])
    await task


async def test_two_concurrent_batches_get_their_own_outcomes(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    first = asyncio.create_task(publisher.publish_all([MESSAGE] * 3))
    second = asyncio.create_task(publisher.publish_all([MESSAGE] * 3))
    await eventually(lambda: len(client.written) == 6)
    for command in client.written[3:]:
        await client.acknowledge(command)
    assert await second == [None] * 3
    assert not first.done()
    refusal = b'{"error":{"code":400,"err_code":10060,"description":"no"}}'
    await client.acknowledge(client.written[1], refusal)
    for command in (client.written[0], client.written[2]):
        await client.acknowledge(command)
    outcomes = await first
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "NoneType",
        "PublishRejected",
        "NoneType",
    ]


async def test_outcomes_of_several_windows_are_in_order(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    large = OutgoingMessage(MESSAGE.subject, b"x" * (client.max_payload + 1), {})
    count = module.IN_FLIGHT
    task = asyncio.create_task(publisher.publish_all([MESSAGE] * count + [large], within=3600))
    await eventually(lambda: len(client.written) == count)
    for command in list(client.written):
        await client.acknowledge(command)
    outcomes = await task
    assert outcomes[:count] == [None] * count
    assert [type(outcome).__name__ for outcome in outcomes[count:]] == ["TooLarge"]


async def test_the_timer_for_deadlines_stops_without_a_caller(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    publisher = Publisher(client)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(publisher.publish(MESSAGE, within=3600)) for _ in range(2)]
    await eventually(lambda: len(client.written) == 2)
    clock.fire(after=module.SWEEP_SECONDS)
    assert len(clock.timers) == 1
    await cancel_all(*tasks)
    clock.fire(after=module.SWEEP_SECONDS)
    assert not clock.timers


class Headers(dict[str, str]):
    """Headers that a weak reference can point to."""


async def cancelled(_publisher: Publisher, task: asyncio.Task[None]) -> None:
    task.cancel()


async def closed(publisher: Publisher, _task: asyncio.Task[None]) -> None:
    publisher.connection_closed()


async def refused(publisher: Publisher, _task: asyncio.Task[None]) -> None:
    publisher.fail_refused_subject(MESSAGE.subject.lower(), "no")


async def acks_refused(publisher: Publisher, _task: asyncio.Task[None]) -> None:
    publisher.set_acks_refused("no")


@pytest.mark.parametrize("end", [cancelled, closed, refused, acks_refused])
async def test_no_reference_to_an_abandoned_message_is_kept(
    client: FakeClient, end: Callable[[Publisher, asyncio.Task[None]], Awaitable[None]]
) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    headers = Headers()
    message = OutgoingMessage(MESSAGE.subject, b"{}", headers)
    task = asyncio.create_task(publisher.publish(message, within=3600))
    await eventually(lambda: bool(client.written))
    await end(publisher, task)
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), (Unavailable, Forbidden))
    kept = weakref.ref(headers)
    del headers, message, task
    gc.collect()
    assert kept() is None


async def test_a_refusal_of_another_subject_fails_no_publish(client: FakeClient) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    task = asyncio.create_task(publisher.publish(MESSAGE, within=3600))
    await eventually(lambda: bool(client.written))
    publisher.fail_refused_subject("hogsend.events.another", "no")
    publisher.set_acks_refused("")
    await client.acknowledge(client.written[0])
    await task


async def test_a_publish_that_fails_a_local_check_writes_nothing(
    client: FakeClient,
) -> None:
    publisher = Publisher(client)  # type: ignore[arg-type]
    head = len(encode_headers(MESSAGE.headers))
    fits = OutgoingMessage(MESSAGE.subject, b"x" * (client.max_payload - head), MESSAGE.headers)
    with pytest.raises(TooLarge):
        await publisher.publish(msgspec.structs.replace(fits, body=fits.body + b"x"))
    publisher.set_acks_refused("no")
    with pytest.raises(Forbidden):
        await publisher.publish(MESSAGE)
    client.is_connected = False
    with pytest.raises(Unavailable, match="not connected"):
        await publisher.publish(MESSAGE)
    assert not client.written
    client.is_connected = True
    publisher.set_acks_refused("")
    task = asyncio.create_task(publisher.publish(fits, within=3600))
    await eventually(lambda: bool(client.written))
    await client.acknowledge(client.written[0])
    await task


async def test_concurrent_callers_share_one_inbox(client: FakeClient) -> None:
    publisher, calls, subscribe = Publisher(client), 0, client.subscribe_inline  # type: ignore[arg-type]

    async def slow(subject: str, on_message: Callable[[Any], None]) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        await subscribe(subject, on_message)

    client.subscribe_inline = slow  # type: ignore[assignment,method-assign]
    tasks = [asyncio.create_task(publisher.publish(MESSAGE, within=3600)) for _ in range(3)]
    await eventually(lambda: len(client.written) == 3)
    for command in list(client.written):
        await client.acknowledge(command)
    await asyncio.gather(*tasks)
    assert calls == 1


@pytest.mark.parametrize("error", [nats.errors.ConnectionClosedError(), ConnectionResetError()])
async def test_a_failed_subscription_is_unavailable(client: FakeClient, error: Exception) -> None:
    async def fails(*_: object) -> None:
        raise error

    client.subscribe_inline = fails  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable):
        await publishing(client, within=3600)


async def test_an_empty_reply_means_that_there_is_no_stream(client: FakeClient) -> None:
    task = publishing(client, within=3600)
    await eventually(lambda: bool(client.written))
    await client.acknowledge(client.written[0], b"")
    with pytest.raises(Unavailable, match="does not exist"):
        await task
