"""A wire between a client and a server that can be cut in the middle of a message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
CHUNK_BYTES = 64 * 1024
IDLE_SECONDS = 0.2
"""A connection that says nothing for this long is cut without a half message."""


class Wire:
    """A TCP proxy on 127.0.0.1."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sessions: set[_Session] = set()

    async def cut(self) -> int:
        """Let half of what comes next through on every connection, and drop them; gives how many.

        New connections are taken at once.
        """
        sessions = list(self._sessions)
        for session in sessions:
            session.cutting = True
        await asyncio.sleep(IDLE_SECONDS)
        for session in sessions:
            session.abort()
        return len(sessions)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on until either side ends."""
        try:
            behind_reader, behind_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        session = _Session(writer, behind_writer)
        self._sessions.add(session)
        try:
            await asyncio.gather(
                session.pump(reader, behind_writer), session.pump(behind_reader, writer)
            )
        finally:
            self._sessions.discard(session)
            session.abort()


class _Session:
    def __init__(self, front: asyncio.StreamWriter, behind: asyncio.StreamWriter) -> None:
        self._ends = (front, behind)
        self.cutting = False

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
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
            # What is in the buffer still leaves: half a message must arrive to be half a message.
            end.close()


@asynccontextmanager
async def wire(port: int, connect: Connect) -> AsyncIterator[Wire]:
    """Listen on a port and pass every connection on."""
    passing = Wire(connect)
    server = await asyncio.start_server(passing.serve, "127.0.0.1", port)
    try:
        yield passing
    finally:
        server.close()
        await passing.cut()
