"""The body timeout: one deadline for the whole body, and none after it."""

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
    TooSlowForOthers,
    http1_settings,
    with_body_timeout,
)
from tests.waiting import eventually

HTTP = cast("HTTPScope", {"type": "http"})


def piece(*, more: bool) -> ReceiveMessage:
    return cast("ReceiveMessage", {"type": "http.request", "body": b"x", "more_body": more})


async def run(app: ASGIApp, scope: Scope, messages: Iterator[ReceiveMessage | None]) -> None:
    """Run `app`; None among the messages is one that comes only after the deadline."""

    async def receive() -> ReceiveMessage:
        message = next(messages)
        if message is None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            message = next(messages)
        assert message is not None
        return message

    async def send(_message: Any) -> None:
        pass

    # No time at all: what does not come at once comes too late.
    await with_body_timeout(app, 0, BodyBudget())(scope, receive, send)


def reading(times: int, read: list[ReceiveMessage]) -> ASGIApp:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        for _ in range(times):
            read.append(await receive())  # noqa: PERF401 - what was read before it failed counts

    return app


async def test_a_body_in_time_is_read() -> None:
    read: list[ReceiveMessage] = []
    await run(reading(2, read), HTTP, iter([piece(more=True), piece(more=False)]))
    assert len(read) == 2


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_a_body_that_stops_arriving_is_given_up(pieces: int) -> None:
    read: list[ReceiveMessage] = []
    messages = iter([*[piece(more=True)] * pieces, None, piece(more=False)])
    with pytest.raises(BodyTooSlow, match="did not arrive in time"):
        await run(reading(9, read), HTTP, messages)
    assert len(read) == pieces


async def test_after_the_body_the_client_may_stay_silent() -> None:
    read: list[ReceiveMessage] = []
    gone = cast("ReceiveMessage", {"type": "http.disconnect"})
    await run(reading(2, read), HTTP, iter([piece(more=False), None, gone]))
    assert read[-1] == gone


async def test_only_requests_have_a_body() -> None:
    read: list[ReceiveMessage] = []
    scope = cast("Scope", {"type": "lifespan"})
    await run(reading(1, read), scope, iter([None, piece(more=False)]))
    assert len(read) == 1


class Sender:
    """A client that sends a body piece by piece, when it is told to."""

    def __init__(self, budget: BodyBudget) -> None:
        self.pieces: asyncio.Queue[ReceiveMessage] = asyncio.Queue()
        self.read: list[int] = []
        self.answered = asyncio.Event()
        app = with_body_timeout(self._app, 60, budget)
        self.request = asyncio.create_task(
            cast("Any", app)(HTTP, self.pieces.get, lambda _message: None)
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


async def test_bodies_wait_for_one_another_and_the_oldest_does_not() -> None:
    budget = BodyBudget(max_bytes=100)
    first, second = Sender(budget), Sender(budget)
    first.send(100, more=True)
    await eventually(lambda: first.read == [100])
    second.send(50, more=False)
    first.send(100, more=False)
    await eventually(lambda: first.read == [100, 100])
    assert (second.read, budget.held) == ([], 200)
    first.answered.set()
    await eventually(lambda: second.read == [50])
    second.answered.set()
    await asyncio.gather(first.request, second.request)
    assert budget.held == 0


async def test_a_slow_body_is_given_up_for_the_sake_of_others_and_only_then() -> None:
    budget = BodyBudget(max_bytes=100, slow_seconds=0)
    slow = Sender(budget)
    slow.send(100, more=True)
    await eventually(lambda: slow.read == [100])
    assert not slow.request.done()
    other = Sender(budget)
    other.send(50, more=False)
    with pytest.raises(TooSlowForOthers):
        await slow.request
    await eventually(lambda: other.read == [50])
    other.answered.set()
    await other.request
    assert budget.held == 0


def test_the_server_limits_headers_by_time_and_size() -> None:
    settings = http1_settings(1.5)
    assert settings.header_read_timeout == 1500
    assert settings.max_buffer_size == MAX_HEADER_BYTES
