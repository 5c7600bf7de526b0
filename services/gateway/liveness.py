"""Serves `/livez` on a separate port, also while all connections of the main port are in use.

A supervisor restarts a process that does not answer. Without this port it would also restart a
gateway that is merely busy, and disconnect every client. The event loop answers, so a gateway whose
loop hangs is still restarted. Only the supervisor on the same network should reach this port.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from hogsend.contract.errors import CannotStart
from hogsend.service import metrics
from services.gateway.health.documents import Liveness

log = structlog.get_logger(__name__)

PATH = b"/livez"
REQUEST_SECONDS = 3.0
"""Time limit for a request and its response."""
REQUEST_BYTES = 8192
MAX_CONNECTIONS = 64
"""Concurrent connections; further ones are closed. Each lasts at most `REQUEST_SECONDS`."""

_BODY = msgspec.json.encode(Liveness())


class LivenessListener:
    """A minimal HTTP server for `GET /livez`."""

    def __init__(self, host: str, port: int) -> None:
        """Prepare to listen. Port 0 turns the listener off."""
        self._host = host
        self._port = port
        self._open = 0

    async def serve(self) -> None:
        """Serve until cancelled. Returns at once when the listener is turned off.

        Raises:
            CannotStart: the port cannot be listened on.
        """
        if not self._port:
            return
        try:
            server = await asyncio.start_server(
                self._connected, self._host, self._port, limit=REQUEST_BYTES
            )
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {self._host}:{self._port} ({error.strerror}); set "
                "GATEWAY_LIVENESS_PORT to another port, or to 0 for none"
            ) from error
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    writer.write(_response(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (
            OSError,
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            # Not logged above debug: a port scan causes it, too.
            metrics.FAILURES.labels("liveness", type(error).__name__).inc()
            log.debug("a client of the liveness port sent no request", reason=str(error))
        finally:
            self._open -= 1
            writer.close()


def _response(request: bytes) -> bytes:
    method, _, after_method = request.partition(b" ")
    target = after_method.partition(b" ")[0].partition(b"?")[0]
    status, body = b"200 OK", _BODY
    if target != PATH:
        status, body = b"404 Not Found", b""
    elif method not in {b"GET", b"HEAD"}:
        status, body = b"405 Method Not Allowed\r\nAllow: GET, HEAD", b""
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
        status,
        len(body),
    )
    return head + b"Connection: close\r\n\r\n" + (b"" if method == b"HEAD" else body)
