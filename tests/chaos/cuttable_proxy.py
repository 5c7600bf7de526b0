"""A TCP proxy that can cut its connections in the middle of a message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
CHUNK_BYTES = 64 * 1024
IDLE_SECONDS = 0.2
"""Seconds that `cut` waits for a message on each connection, to send half of it."""


class CuttableProxy:
    """A TCP proxy on 127.0.0.1."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sessions: set[_Session] = set()

    async def cut(self) -> int:
        """Forward half of the next data of every connection, then close it; returns their number.

        New connections are accepted at once.
        """
        sessions = list(self._sessions)
        for session in sessions:
            session.cutting = True
        await asyncio.sleep(IDLE_SECONDS)
        for session in sessions:
            session.abort()
        return len(sessions)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection until either side closes it."""
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        session = _Session(writer, server_writer)
        self._sessions.add(session)
        try:
            await asyncio.gather(
                session.forward(reader, server_writer), session.forward(server_reader, writer)
            )
        finally:
            self._sessions.discard(session)
            session.abort()


class _Session:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self.cutting = False

    async def forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                if self.cutting:
                    sink.write(data[: len(data) // 2])
                    await sink.drain()
                    break
                sink.write(data)
                await sink.drain()
        self.abort()

    def abort(self) -> None:
        for end in self._ends:
            # `close` still sends the buffer, so that half a message does arrive.
            end.close()


@asynccontextmanager
async def cuttable_proxy(port: int, connect: Connect) -> AsyncIterator[CuttableProxy]:
    """Run a proxy on a port during the block."""
    proxy = CuttableProxy(connect)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.cut()
