"""The body timeout: one deadline for the whole body, and none after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from litestar.types import ASGIApp, HTTPScope, ReceiveMessage, Scope

from services.gateway.request_timeouts import (
    MAX_HEADER_BYTES,
    BodyTooSlow,
    http1_settings,
    with_body_timeout,
)

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
    await with_body_timeout(app, 0)(scope, receive, send)


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


def test_the_server_limits_headers_by_time_and_size() -> None:
    settings = http1_settings(1.5)
    assert settings.header_read_timeout == 1500
    assert settings.max_buffer_size == MAX_HEADER_BYTES
