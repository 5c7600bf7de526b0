"""A cancelled request releases its connection, at whatever moment it is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore
import pytest

from hogsend.service.http_pool import keep_usable
from tests.waiting import PATIENCE_SECONDS, eventually

RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"


def cancel_current_request() -> None:
    """Cancel the calling task: its next `await` raises `CancelledError`."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


class Stream(httpcore.AsyncMockStream):
    """A connection that responds to three requests."""

    def __init__(self) -> None:
        super().__init__([RESPONSE] * 3)
        self.is_closed_by_server = False
        """The server has closed it. The next request is cancelled while the client closes it."""

    def get_extra_info(self, info: str) -> Any:
        return self.is_closed_by_server if info == "is_readable" else super().get_extra_info(info)

    async def aclose(self) -> None:
        if self.is_closed_by_server:
            cancel_current_request()
            await asyncio.sleep(0)
        await super().aclose()


class Backend(httpcore.AsyncMockBackend):
    """Connects; cancels the first `cancelled` requests while they connect."""

    def __init__(self, *, cancelled: int = 0) -> None:
        super().__init__([])
        self._cancelled = cancelled
        self.streams: list[Stream] = []

    async def connect_tcp(self, *_args: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        if len(self.streams) < self._cancelled:
            cancel_current_request()
        self.streams.append(Stream())
        return self.streams[-1]


async def send(pool: httpcore.AsyncConnectionPool) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await pool.request("GET", "http://posthog.example/")).status


async def send_cancelled(pool: httpcore.AsyncConnectionPool) -> None:
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(send(pool))


async def test_a_request_cancelled_while_it_connects_releases_its_connection() -> None:
    backend = Backend(cancelled=1)
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=backend) as pool:
        keep_usable(pool)
        await send_cancelled(pool)
        assert await send(pool) == 204
        assert await send(pool) == 204


async def test_a_request_cancelled_before_it_connects_releases_its_connection() -> None:
    backend = Backend()
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=backend) as pool:
        keep_usable(pool)
        assert await send(pool) == 204
        backend.streams[0].is_closed_by_server = True
        await send_cancelled(pool)
        assert await send(pool) == 204
    assert len(backend.streams) == 2


async def test_a_connection_in_use_is_not_closed() -> None:
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=Backend()) as pool:
        keep_usable(pool)
        async with pool.stream("GET", "http://posthog.example/") as response:
            assert response.status == 204
            (connection,) = pool.connections
            assert not connection.is_closed()


async def test_a_request_cancelled_while_it_waits_for_a_connection_releases_it() -> None:
    async with httpcore.AsyncConnectionPool(max_connections=1, network_backend=Backend()) as pool:
        keep_usable(pool)
        async with pool.stream("GET", "http://posthog.example/"):
            waiting = asyncio.create_task(send(pool))
            await eventually(lambda: len(pool._requests) == 2)
            (connection,) = pool.connections
            await connection.aclose()
        # The pool has assigned a new connection to the request, which has not resumed yet.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await send(pool) == 204
