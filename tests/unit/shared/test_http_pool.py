"""Requests that are given up leave their connection to others, at whatever moment that is."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore
import pytest

from hogsend.service.http_pool import keep_usable
from tests.waiting import PATIENCE_SECONDS, eventually

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


def give_up() -> None:
    """Cancel who asks; the next moment at which it waits it is told."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


class Stream(httpcore.AsyncMockStream):
    """A connection that answers a few times."""

    def __init__(self) -> None:
        super().__init__([ANSWER] * 3)
        self.is_over = False
        """The server has closed it, and the request behind is given up while it is closed here."""

    def get_extra_info(self, info: str) -> Any:
        return self.is_over if info == "is_readable" else super().get_extra_info(info)

    async def aclose(self) -> None:
        if self.is_over:
            give_up()
            await asyncio.sleep(0)
        await super().aclose()


class Backend(httpcore.AsyncMockBackend):
    """Connects; the first few requests are given up at that moment."""

    def __init__(self, *, given_up: int = 0) -> None:
        super().__init__([])
        self._given_up = given_up
        self.streams: list[Stream] = []

    async def connect_tcp(self, *_args: Any, **_more: Any) -> httpcore.AsyncNetworkStream:
        if len(self.streams) < self._given_up:
            give_up()
        self.streams.append(Stream())
        return self.streams[-1]


async def ask(pool: httpcore.AsyncConnectionPool) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await pool.request("GET", "http://posthog.example/")).status


async def given_up(pool: httpcore.AsyncConnectionPool) -> None:
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(ask(pool))


async def test_a_request_that_is_given_up_as_it_is_connected_leaves_room() -> None:
    backend = Backend(given_up=1)
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=backend) as pool:
        keep_usable(pool)
        await given_up(pool)
        assert await ask(pool) == 204
        assert await ask(pool) == 204


async def test_a_request_that_is_given_up_before_it_is_connected_leaves_room() -> None:
    backend = Backend()
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=backend) as pool:
        keep_usable(pool)
        assert await ask(pool) == 204
        backend.streams[0].is_over = True
        await given_up(pool)
        assert await ask(pool) == 204
    assert len(backend.streams) == 2


async def test_a_connection_in_use_is_left_alone() -> None:
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=Backend()) as pool:
        keep_usable(pool)
        async with pool.stream("GET", "http://posthog.example/") as answer:
            assert answer.status == 204
            (connection,) = pool.connections
            assert not connection.is_closed()


async def test_a_request_that_is_given_up_while_it_waits_leaves_room() -> None:
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=Backend()) as pool:
        keep_usable(pool)
        async with pool.stream("GET", "http://posthog.example/"):
            waiting = asyncio.create_task(ask(pool))
            await eventually(lambda: len(pool._requests) == 2)
            (connection,) = pool.connections
            await connection.aclose()
        # The connection that was made for it is handed over, and it does not know yet.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await ask(pool) == 204
