"""The body timeout: one deadline for the whole body, and the memory budget for bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from litestar.types import ASGIApp, HTTPScope, ReceiveMessage, Scope

from services.gateway.body_budget import BodyBudget
from services.gateway.request_timeouts import (
    MAX_HEADER_BYTES,
    BodyTooSlow,
    TooBusy,
    http1_settings,
    with_body_timeout,
)
from tests.waiting import eventually

HTTP = cast("HTTPScope", {"type": "http", "headers": [], "state": {}})


def piece(*, more: bool) -> ReceiveMessage:
    return cast("ReceiveMessage", {"type": "http.request", "body": b"x", "more_body": more})


async def run(app: ASGIApp, scope: Scope, messages: Iterator[ReceiveMessage | None]) -> None:
    """Run `app`. A None among the messages delays the next message until after the deadline."""

    async def receive() -> ReceiveMessage:
        message = next(messages)
        if message is None:
            for _ in range(10):
                await asyncio.sleep(0)
            message = next(messages)
        assert message is not None
        return message

    async def send(_message: Any) -> None:
        pass

    # A timeout of 0: every message that is not there at once is too late.
    await with_body_timeout(app, 0, BodyBudget(100, sweep_seconds=0))(scope, receive, send)


def reading(times: int, read: list[ReceiveMessage]) -> ASGIApp:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        for _ in range(times):
            read.append(await receive())  # noqa: PERF401 - what was read before it failed counts

    return app


async def test_a_body_that_arrives_in_time_is_read() -> None:
    read: list[ReceiveMessage] = []
    await run(reading(2, read), HTTP, iter([piece(more=True), piece(more=False)]))
    assert len(read) == 2


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_a_body_that_stops_arriving_is_aborted(pieces: int) -> None:
    read: list[ReceiveMessage] = []
    messages = iter([*[piece(more=True)] * pieces, None, piece(more=False)])
    with pytest.raises(BodyTooSlow, match="did not arrive in time"):
        await run(reading(9, read), HTTP, messages)
    assert len(read) == pieces


async def test_the_timeout_ends_with_the_last_part_of_the_body() -> None:
    read: list[ReceiveMessage] = []
    disconnect = cast("ReceiveMessage", {"type": "http.disconnect"})
    await run(reading(2, read), HTTP, iter([piece(more=False), None, disconnect]))
    assert read[-1] == disconnect


async def test_the_timeout_applies_to_http_requests_only() -> None:
    read: list[ReceiveMessage] = []
    scope = cast("Scope", {"type": "lifespan"})
    await run(reading(1, read), scope, iter([None, piece(more=False)]))
    assert len(read) == 1


class Sender:
    """A client that sends its body in pieces, when the test calls `send`."""

    def __init__(self, budget: BodyBudget, length: int, *headers: tuple[bytes, bytes]) -> None:
        self.pieces: asyncio.Queue[ReceiveMessage] = asyncio.Queue()
        self.read: list[int] = []
        self.answered = asyncio.Event()
        raw = [(b"content-length", b"%d" % length), *headers] if length >= 0 else [*headers]
        app = with_body_timeout(self._app, 60, budget)
        self.request = asyncio.create_task(
            cast("Any", app)({**HTTP, "headers": raw}, self.pieces.get, lambda _message: None)
        )

    def send(self, size: int, *, more: bool) -> None:
        message = {"type": "http.request", "body": b"x" * size, "more_body": more}
        self.pieces.put_nowait(cast("ReceiveMessage", message))

    async def _app(self, _scope: Any, receive: Any, _send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.read.append(len(message["body"]))
            more = message["more_body"]
        await self.answered.wait()


def small_budget(**changes: Any) -> BodyBudget:
    return BodyBudget(80, **{"max_bytes": 100, "small_bytes": 10, **changes})


async def test_large_bodies_wait_in_order_and_small_ones_do_not_wait() -> None:
    budget = small_budget()
    first, second, third = Sender(budget, 60), Sender(budget, 50), Sender(budget, 20)
    small = Sender(budget, 10)
    for sender, size in ((first, 60), (second, 50), (third, 20), (small, 10)):
        sender.send(size, more=False)
    await eventually(lambda: (first.read, small.read) == ([60], [10]))
    assert (second.read, third.read, budget.admitted_bytes) == ([], [], 70)
    first.answered.set()
    await eventually(lambda: (second.read, third.read) == ([50], [20]))
    for sender in (second, third, small):
        sender.answered.set()
    await asyncio.gather(*(sender.request for sender in (first, second, third, small)))
    assert budget.admitted_bytes == 0


async def test_small_bodies_that_keep_arriving_do_not_starve_a_body_above_the_limit() -> None:
    budget = small_budget(max_bytes=50)
    large, above_the_limit = Sender(budget, 40), Sender(budget, 80)
    small = Sender(budget, 10)
    for sender, size in ((large, 40), (above_the_limit, 80), (small, 10)):
        sender.send(size, more=False)
    await eventually(lambda: (large.read, small.read) == ([40], [10]))
    assert above_the_limit.read == []
    large.answered.set()
    # The small body is still in memory, as some always are under load.
    await eventually(lambda: above_the_limit.read == [80])
    assert budget.admitted_bytes == 90
    for sender in (above_the_limit, small):
        sender.answered.set()
    await asyncio.gather(*(sender.request for sender in (large, above_the_limit, small)))
    assert budget.admitted_bytes == 0


@pytest.mark.parametrize(
    ("length", "headers", "admitted"),
    [
        (30, (), 30),
        (-1, (), 0),
        (-1, ((b"transfer-encoding", b"chunked"),), 80),
        (10**12, (), 80),
        (30, ((b"content-encoding", b"gzip"),), 80),
    ],
)
async def test_a_body_counts_with_its_largest_possible_size(
    length: int, headers: tuple[tuple[bytes, bytes], ...], admitted: int
) -> None:
    budget = small_budget()
    sender = Sender(budget, length, *headers)
    sender.send(1, more=False)
    await eventually(lambda: sender.read == [1])
    assert budget.admitted_bytes == admitted
    sender.answered.set()
    await sender.request
    assert budget.admitted_bytes == 0


async def test_a_slow_body_is_aborted_only_while_another_request_waits() -> None:
    budget = small_budget(slow_seconds=0)
    slow = Sender(budget, 80)
    slow.send(40, more=True)
    await eventually(lambda: slow.read == [40])
    assert not slow.request.done()
    other = Sender(budget, 50)
    other.send(50, more=False)
    with pytest.raises(TooBusy):
        await slow.request
    await eventually(lambda: other.read == [50])
    other.answered.set()
    await other.request
    assert budget.admitted_bytes == 0


async def test_only_the_first_waiting_body_checks_for_slow_bodies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[asyncio.Task[Any] | None] = []
    monkeypatch.setattr(
        BodyBudget, "_abort_slow", lambda _budget: checked.append(asyncio.current_task())
    )
    budget = small_budget(slow_seconds=0.01)
    first, *waiting = (Sender(budget, 80) for _ in range(9))
    first.send(80, more=False)
    await eventually(lambda: len(checked) >= 9)
    assert set(checked) == {waiting[0].request}
    for sender in (first, *waiting):
        sender.request.cancel()
    await asyncio.gather(*(sender.request for sender in (first, *waiting)), return_exceptions=True)
    assert budget.admitted_bytes == 0


async def test_a_request_that_ends_while_it_waits_leaves_the_queue() -> None:
    budget = small_budget()
    first, second, third = (Sender(budget, 80) for _ in range(3))
    for sender in (first, second, third):
        sender.send(80, more=False)
    await eventually(lambda: first.read == [80])
    second.request.cancel()
    first.answered.set()
    await eventually(lambda: third.read == [80])
    third.answered.set()
    await asyncio.gather(first.request, third.request)
    assert (budget.admitted_bytes, second.read) == (0, [])


def test_the_server_limits_headers_by_time_and_size() -> None:
    settings = http1_settings(1.5)
    assert settings.header_read_timeout == 1500
    assert settings.max_buffer_size == MAX_HEADER_BYTES


async def test_a_cancelled_request_does_not_count_as_slow() -> None:
    sender = Sender(BodyBudget(100), 10)
    await eventually(lambda: cast("Any", sender.pieces)._getters)
    sender.request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender.request


async def test_reading_a_body_again_after_its_deadline_raises_the_error_again() -> None:
    errors: list[BodyTooSlow] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        for _ in range(2):
            with pytest.raises(BodyTooSlow) as error:
                await receive()
            errors.append(error.value)

    never = asyncio.Event()

    async def receive() -> Any:
        await never.wait()

    wrapped = with_body_timeout(cast("ASGIApp", app), 0, BodyBudget(100, sweep_seconds=0))
    await wrapped(HTTP, receive, cast("Any", None))
    assert len(errors) == 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
