"""The loopback HTTP server that waits for the browser (RFC 8252, 7.3; contract 3.3).

Connections are served concurrently and limited in time and size, so that one that never completes
its request cannot delay the callback.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from cli.connect.callback import Answer, Reply, Request, handle_callback
from cli.connect.results import ConnectError, Verdict
from hogsend.posthog.client_document import CALLBACK_PORTS

HOST = "127.0.0.1"
HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
MAX_CONNECTIONS = 32
"""With more, the oldest is closed: the browser's is most likely the newest."""

_HEADERS = (
    "Cache-Control: no-store",
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "Connection: close",
)


class Listener:
    """Listens on one of the callback ports and keeps the first callback."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answered = False
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self.port = 0

    @property
    def redirect_uri(self) -> str:
        """Redirect URI to give to PostHog; one of the client document's."""
        return f"http://{HOST}:{self.port}/callback"

    async def bind(self, ports: Sequence[int]) -> None:
        """Listen on the first free port.

        Raises:
            ConnectError: `port_unavailable`, all are taken.
        """
        for port in ports:
            self.port = port
            try:
                self._server = await asyncio.start_server(self._serve, HOST, port, limit=HEAD_BYTES)
            except OSError:
                continue
            return
        named = ", ".join(str(port) for port in ports)
        raise ConnectError(
            Verdict.PORT_UNAVAILABLE,
            f"ports {named} on {HOST} are all taken",
            hint="PostHog sends the browser back to one of them: free one (`ss -ltnp` shows what "
            "holds it), perhaps another `hogsend connect` that still waits",
        )

    async def code(self, seconds: float) -> str:
        """Wait for the first callback and return its authorization code.

        Raises:
            ConnectError: it has no code, or none came within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                answer = await asyncio.shield(self._answer)
        except TimeoutError:
            raise ConnectError(
                Verdict.CALLBACK_TIMEOUT,
                f"the request was not answered in the browser within {seconds:g} seconds",
                hint="run it again and approve the request in PostHog; `--timeout` gives more "
                "time, `--no-browser` prints the address to open",
            ) from None
        if isinstance(answer.outcome, ConnectError):
            raise answer.outcome
        return answer.outcome

    async def close(self) -> None:
        """Stop listening and close open connections."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._open.values() if task is not None]
        for writer in self._open:
            # Each task ends as if its client were gone. One that is cancelled has asyncio of Python
            # 3.11 print a traceback, and browsers leave connections open that they do not use.
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._make_room()
        self._open[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await self._reply_to(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the client is gone or did not complete its request
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _reply_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            await _send(writer, Reply(431, "The request is too large.\n"))
            return
        request = _parse(head)
        if request is None:
            await _send(writer, Reply(400, "This is not HTTP.\n"))
            return
        decision = handle_callback(
            request, port=self.port, state=self._state, answered=self._answered
        )
        if isinstance(decision, Reply):
            await _send(writer, decision, with_body=request.method != "HEAD")
            return
        self._answered = True
        try:
            await _send(writer, decision.reply)
        finally:
            # Only now: `code` returning must not cut off the page. Also if the browser is gone.
            if not self._answer.done():
                self._answer.set_result(decision)

    def _make_room(self) -> None:
        while len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            self._open.pop(oldest)
            oldest.transport.abort()


@contextlib.asynccontextmanager
async def listening(state: str, ports: Sequence[int] | None = None) -> AsyncIterator[Listener]:
    """Listen on the first free port while in the block.

    Raises:
        ConnectError: `port_unavailable`.
    """
    listener = Listener(state)
    await listener.bind(ports or CALLBACK_PORTS)
    try:
        yield listener
    finally:
        await listener.close()


def _parse(head: bytes) -> Request | None:
    first, *lines = head.decode("latin-1").split("\r\n")
    match first.split(" "):
        case [method, target, version] if version.startswith("HTTP/1."):
            pass
        case _:
            return None
    hosts = [
        value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon and name.lower() == "host"
    ]
    return Request(method, target, hosts[0] if len(hosts) == 1 else None)


async def _send(writer: asyncio.StreamWriter, reply: Reply, *, with_body: bool = True) -> None:
    body = reply.body.encode()
    kind = "text/html" if reply.html else "text/plain"
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {kind}; charset=utf-8",
        f"Content-Length: {len(body)}",
        *(["Allow: GET"] if reply.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
        *_HEADERS,
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body if with_body else b""))
    await writer.drain()
