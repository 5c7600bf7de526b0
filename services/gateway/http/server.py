"""The HTTP server: accepts connections on a socket of ours, looks after them, stops in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import structlog
from litestar.types import ASGIApp

from hogsend.service import metrics
from services.gateway.http.connection import Connection, Shared

log = structlog.get_logger(__name__)

ACCEPT_AT_ONCE = 64
"""Connections accepted before others have their turn."""
LOOK_SECONDS = 0.25
"""How late a connection that misses its deadline may be closed."""
RETRY_SECONDS = 0.5
"""Until the next attempt to accept, when that failed."""


class Server:
    """Serves an ASGI application over HTTP/1.1."""

    listening: Callable[[], socket.socket]
    """Gives the socket when it begins to serve; to be set before."""

    def __init__(self, app: ASGIApp, *, max_connections: int, head_seconds: float) -> None:
        """Prepare to serve.

        Args:
            app: the application.
            max_connections: at the same time; more wait in the socket.
            head_seconds: how long a connection may take until a request's head is complete.
        """
        self._max_connections = max_connections
        self._shared = Shared(app, head_seconds, self._lost)
        self._open = 0
        self._accepts = False
        self._stop = asyncio.Event()
        self._all_closed = asyncio.Event()
        self._beginning: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until `stop`, and then until everything under way is answered."""
        self._listening = self.listening()
        self._loop = asyncio.get_running_loop()
        self._accept_more()
        looking = asyncio.create_task(self._look_at_deadlines())
        try:
            await self._stop.wait()
            # Those that the kernel has let in already would be cut off.
            self._accept()
            self._accept_no_more()
            self._listening.close()
            self._shared.stopping = True
            while self._open:
                self._all_closed.clear()
                for connection in list(self._shared.connections):
                    connection.stop()
                await self._all_closed.wait()
            if self._shared.running:
                await asyncio.wait(self._shared.running)
        finally:
            looking.cancel()

    def stop(self) -> None:
        """Accept nothing more, and let `serve` return when all is answered."""
        self._stop.set()

    def _accept_more(self) -> None:
        full = self._open >= self._max_connections
        if not self._accepts and not full and not self._stop.is_set():
            self._accepts = True
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept_no_more(self) -> None:
        if self._accepts:
            self._accepts = False
            self._loop.remove_reader(self._listening.fileno())

    def _accept(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if self._open >= self._max_connections:
                self._accept_no_more()
                return
            try:
                client, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No more files, most likely: others have to close theirs.
                metrics.FAILURES.labels("http", "accept").inc()
                log.warning("a connection cannot be accepted", reason=str(error))
                self._accept_no_more()
                self._loop.call_later(RETRY_SECONDS, self._accept_more)
                return
            client.setblocking(False)  # noqa: FBT003 - it has no name
            self._open += 1
            task = self._loop.create_task(self._begin(client))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self._shared), client)
        except OSError as error:
            # Gone before it was looked at.
            log.debug("a connection did not begin", reason=str(error))
            client.close()
            self._lost()

    def _lost(self) -> None:
        self._open -= 1
        self._accept_more()
        if not self._open:
            self._all_closed.set()

    async def _look_at_deadlines(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._loop.time()
            for connection in [one for one in self._shared.connections if one.deadline <= now]:
                connection.expire()
