"""`/livez` on a port of its own: answered while every connection of the gateway's is taken.

A supervisor restarts what does not answer. It would else restart a gateway that is only full, and
cut off every client. The event loop answers, as it does everything else here; the port is for the
supervisor on the same network only.
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
"""How long a request may take, and its answer."""
REQUEST_BYTES = 8192
MAX_CONNECTIONS = 64
"""At the same time; each lasts for `REQUEST_SECONDS` at most."""

_BODY = msgspec.json.encode(Liveness())


class LivenessListener:
    """Answers `GET /livez`, and nothing else."""

    def __init__(self, host: str, port: int) -> None:
        """Prepare to listen; port 0 is none."""
        self._host = host
        self._port = port
        self._open = 0

    async def serve(self) -> None:
        """Answer until cancelled; nothing without a port.

        Raises:
            CannotStart: nothing can listen there.
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
                    writer.write(_answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (
            OSError,
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            # Not from a supervisor that only asks whether this process lives.
            metrics.FAILURES.labels("liveness", type(error).__name__).inc()
            log.debug("a client of the liveness port sent no request", reason=str(error))
        finally:
            self._open -= 1
            writer.close()


def _answer(request: bytes) -> bytes:
    method, _, rest = request.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
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
