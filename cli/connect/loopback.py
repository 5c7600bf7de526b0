"""The loopback HTTP server that receives the OAuth callback (RFC 8252, 7.3; contract 3.3).

Connections are served concurrently, with limits on time and size, so that an incomplete request
cannot delay the callback.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from cli.connect.callback import Callback, Reply, Request, handle_callback
from cli.connect.results import ConnectError, Verdict
from hogsend.posthog.client_document import CALLBACK_PORTS

HOST = "127.0.0.1"
HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
MAX_CONNECTIONS = 32
"""Beyond this number the oldest connection is closed, since the browser's is likely the newest."""

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
        self._callback: asyncio.Future[Callback] = asyncio.get_running_loop().create_future()
        self._has_callback = False
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self.port = 0

    @property
    def redirect_uri(self) -> str:
        """Redirect URI for PostHog; the client document lists one for each callback port."""
        return f"http://{HOST}:{self.port}/callback"

    async def bind(self, ports: Sequence[int]) -> None:
        """Listen on the first free port.

        Raises:
            ConnectError: `port_unavailable`: no port is free.
        """
        for port in ports:
            self.port = port
            try:
                self._server = await asyncio.start_server(self._serve, HOST, port, limit=HEAD_BYTES)
            except OSError:
                continue
            return
        port_list = ", ".join(str(port) for port in ports)
        raise ConnectError(
            Verdict.PORT_UNAVAILABLE,
            f"ports {port_list} on {HOST} are all in use",
            hint="free one of them: `ss -ltnp` shows the processes, perhaps another `hogsend "
            "connect` that still waits. PostHog redirects the browser to one of these ports",
        )

    async def code(self, seconds: float) -> str:
        """Wait for the first callback and return its authorization code.

        Raises:
            ConnectError: the callback has no code, or none arrived within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                callback = await asyncio.shield(self._callback)
        except TimeoutError:
            raise ConnectError(
                Verdict.CALLBACK_TIMEOUT,
                f"the request was not approved in the browser within {seconds:g} seconds",
                hint="run it again and approve the request in PostHog; `--timeout` allows more "
                "time, `--no-browser` prints the URL to open",
            ) from None
        if isinstance(callback.outcome, ConnectError):
            raise callback.outcome
        return callback.outcome

    async def close(self) -> None:
        """Stop listening and close open connections."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._open.values() if task is not None]
        for writer in self._open:
            # Aborting ends each task as if its client had disconnected. Cancelling it instead makes
            # asyncio of Python 3.11 print a traceback, also for connections that browsers keep open
            # unused.
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._close_oldest()
        self._open[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await self._reply_to(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the client disconnected or did not complete its request
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
            request, port=self.port, state=self._state, has_callback=self._has_callback
        )
        if isinstance(decision, Reply):
            await _send(writer, decision, with_body=request.method != "HEAD")
            return
        self._has_callback = True
        try:
            await _send(writer, decision.reply)
        finally:
            # After the page is sent, because `code` returns now and the server then closes. Also
            # if the browser disconnected, since the code is valid all the same.
            if not self._callback.done():
                self._callback.set_result(decision)

    def _close_oldest(self) -> None:
        while len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            self._open.pop(oldest)
            oldest.transport.abort()


@contextlib.asynccontextmanager
async def listening(state: str, ports: Sequence[int] | None = None) -> AsyncIterator[Listener]:
    """Listen on the first free port during the block.

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
