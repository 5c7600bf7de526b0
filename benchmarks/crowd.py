"""Webhooks to a gateway that also has ten thousand idle connections.

Most of these send nothing. Of every fifty, one stops in the middle of its headers, one in the
middle of its body, and one requests a large response twice and never reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from benchmarks.figures import Figure, percentile
from benchmarks.processes import gateway
from tests.servers import Servers

CONNECTIONS = 10_000
WEBHOOKS_A_SECOND = 500
SECONDS = 20
KEPT_ALIVE = 24
"""Kept-alive connections that send webhooks, like a proxy. Every tenth webhook uses a new one."""
SECRET = "bench"  # noqa: S105 - guards nothing real

_HEAD = (
    b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nx-posthog-webhook-secret: bench\r\n"
    b"Content-Type: application/json\r\n"
)
_IDLERS = (
    *[b""] * 47,
    b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    _HEAD + b'Content-Length: 1000\r\n\r\n{"event":',
    b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 2,
)


async def measure(servers: Servers) -> list[Figure]:
    """Post webhooks and request `/livez` while the idle connections are open."""
    _raise_limit()
    program = ("-m", "cli.main", "serve", "gateway")
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(
            servers, Path(directory), program, POSTHOG_WEBHOOK_SECRET=SECRET
        ) as http:
            port = http.base_url.port or 0
            with _crowd(port) as crowd:
                responses, times, livez_times = await _post(port)
            idle = len(crowd)
    refused = sum(count for status, count in responses.items() if status != HTTPStatus.OK)
    return [
        Figure(
            f"webhooks refused at {WEBHOOKS_A_SECOND}/s beside {idle:,} idle connections",
            f"{refused} of {sum(responses.values()):,}",
            "<1",
            {
                **{f"answered {status}": float(count) for status, count in responses.items()},
                "p50_ms": round(percentile(times, 0.5) * 1000, 1),
                "p99_ms": round(percentile(times, 0.99) * 1000, 1),
                "livez_max_ms": round(max(livez_times) * 1000, 1),
            },
        )
    ]


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise RuntimeError(f"this needs {needed} open files; the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


@contextlib.contextmanager
def _crowd(port: int) -> Iterator[list[socket.socket]]:
    crowd: list[socket.socket] = []
    try:
        for number in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            crowd.append(connection)
            # A small receive buffer, so that an unread response blocks the gateway's writes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(_IDLERS[number % len(_IDLERS)])
        yield crowd
    finally:
        for connection in crowd:
            connection.close()


async def _post(port: int) -> tuple[Counter[int], list[float], list[float]]:
    """Post webhooks; returns the number of each status, response times, and those of `/livez`."""
    responses: Counter[int] = Counter()
    times: list[float] = []
    livez_times: list[float] = []
    free: asyncio.Queue[_Client] = asyncio.Queue()
    for _ in range(KEPT_ALIVE):
        free.put_nowait(_Client(port))

    async def post(number: int) -> None:
        started = time.perf_counter()
        body = (
            b'{"event":{"uuid":"%032x","event":"e","distinct_id":"u%d","properties":{}},"person":{}}'
            % (number, number % 4000)
        )
        request = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        is_new = number % 10 == 0
        client = _Client(port) if is_new else await free.get()
        responses[await client.send(request)] += 1
        times.append(time.perf_counter() - started)
        if is_new:
            client.close()
        else:
            free.put_nowait(client)

    async def check_livez() -> None:
        while True:
            started = time.perf_counter()
            client = _Client(port)
            if await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") != HTTPStatus.OK:
                responses[0] += 1
            client.close()
            livez_times.append(time.perf_counter() - started)
            await asyncio.sleep(0.2)

    checking = asyncio.create_task(check_livez())
    started_at = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(WEBHOOKS_A_SECOND * SECONDS):
            due = started_at + number / WEBHOOKS_A_SECOND
            await asyncio.sleep(max(0, due - time.perf_counter()))
            group.create_task(post(number))
    checking.cancel()
    return responses, times, livez_times


class _Client:
    """One connection, which is opened at the first request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> int:
        """Send a request and return the status of the response; 0 without a response."""
        try:
            async with asyncio.timeout(30):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                return int(head.split(b" ", 2)[1])
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
