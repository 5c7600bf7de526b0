"""A client's connection: requests one after the other, each answered before the next begins.

llhttp, the parser of Node.js, reads what comes (`httptools`); it refuses what two readers could
understand differently. What it does not limit is limited here: heads by size, number of headers and
time, and how much is read of a body before somebody asks for it.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from litestar.types import ASGIApp, HTTPScope

from services.gateway.http.answer_head import Clock, refusal
from services.gateway.http.exchange import Exchange

MAX_HEAD_BYTES = 64 * 1024
"""Limit for request line and headers, and for what is between two pieces of a body."""
MAX_HEADERS = 100
READ_BYTES = 16 * 1024
"""Most that is read at once, and of a body that nobody has asked for yet."""
LINGER_SECONDS = 2.0
"""How long a client that still sends may do so after an answer that ends the connection.

Closed at once, its data would be answered by a reset, which can destroy the answer."""
UNUSED_SECONDS = 1.0
"""How long a connection without any request is kept while the gateway stops."""

NEVER = float("inf")

_TOO_LARGE, _BAD, _TOO_SLOW, _VERSION = 431, 400, 408, 505
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Shared:
    """What all connections of a server have in common."""

    def __init__(self, app: ASGIApp, head_seconds: float, lost: Callable[[], None]) -> None:
        """Answer by `app`.

        Args:
            app: the application.
            head_seconds: how long a connection may take until a request's head is complete.
            lost: called whenever a connection has ended.
        """
        self.app = app
        self.head_seconds = head_seconds
        self.lost = lost
        self.clock = Clock()
        self.connections: set[Connection] = set()
        self.running: set[asyncio.Task[None]] = set()
        self.stopping = False
        # Read and parsed within one step of the loop, so that one is enough for all connections.
        self.buffer = memoryview(bytearray(READ_BYTES))


class Connection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, shared: Shared) -> None:
        """Make it; `connection_made` begins."""
        self.deadline = NEVER
        """When it is closed unless something happens, by the loop's clock."""
        self.clock = shared.clock
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._used = False
        # The request whose head is read.
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._expects_continue = False
        self._since_progress = 0
        self._refusal = _BAD
        self._upgraded = False
        # The one that is answered, those that wait for that, and the one whose body comes in.
        self._exchange: Exchange | None = None
        self._queued: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._deaf = False
        self._reading = True
        self._drained: asyncio.Future[None] | None = None

    @property
    def ends(self) -> bool:
        """Whether no further request is taken on it."""
        return not self._queued and (self._deaf or self._shared.stopping)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._shared.connections.add(self)
        self._expect_head()

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self.deadline = NEVER
        self._deaf = True
        for exchange in (self._exchange, *self._queued):
            if exchange is not None:
                exchange.lose()
        self._exchange = self._incoming = None
        self._queued.clear()
        self.resume_writing()
        self._shared.connections.discard(self)
        self._shared.lost()

    def get_buffer(self, _size: int) -> memoryview:
        """Say where to read to."""
        return self._shared.buffer

    def buffer_updated(self, size: int) -> None:
        """Take what was read."""
        if not self._deaf:
            self._parse(self._shared.buffer[:size])

    def pause_writing(self) -> None:
        """Let answers wait: the client does not take them."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let them go on."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # What an exchange calls.

    def write(self, data: bytes) -> None:
        """Send."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent."""
        while self._drained is not None:
            await asyncio.shield(self._drained)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def finished(self, exchange: Exchange) -> None:
        """Go on to the next request, or close."""
        self._exchange = None
        if not exchange.keeps_alive or not exchange.complete:
            self._close(heard_all=exchange.complete and not self._deaf)
        elif self._queued:
            self._start(self._queued.popleft())
        elif self.ends:
            self._close(heard_all=not self._deaf)
        else:
            self._expect_head()
            self.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What the server calls.

    def expire(self) -> None:
        """Close: the deadline has passed."""
        if self._in_head and not self._deaf:
            self._refuse(_TOO_SLOW)
        elif self._transport.get_write_buffer_size():
            # The kernel gives up a client that takes nothing of its answer (`listener.py`).
            self.deadline = self._loop.time() + LINGER_SECONDS
        else:
            self.abort()

    def stop(self) -> None:
        """Take no further request, and close when those under way are answered."""
        if self._exchange is not None or self._deaf:
            return
        if self._used and not self._in_head:
            self._transport.close()
        else:
            self.deadline = min(self.deadline, self._loop.time() + UNUSED_SECONDS)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = True
        self._target = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, piece: bytes) -> None:
        """Take the request's target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._in_head:
            # After the body: nothing here asks for it.
            return
        if len(self._headers) == MAX_HEADERS:
            self._stop_parsing(_TOO_LARGE)
        name = name.lower()
        if value[-1:] in {b" ", b"\t"}:
            value = value.rstrip(b" \t")
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Have the request answered; its body may still come."""
        self._in_head = False
        self._since_progress = 0
        self.deadline = NEVER
        parser = self._parser
        version = parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            self._stop_parsing(_VERSION)
        path, query = self._split_target()
        self._upgraded = parser.should_upgrade()
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode(),
            "scheme": "http",
            "path": unquote(path.decode()) if b"%" in path else path.decode(),
            "raw_path": path,
            "root_path": "",
            "query_string": query,
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "state": {},
        }
        exchange = Exchange(
            self,
            cast("HTTPScope", scope),
            keeps_alive=version == "1.1" and parser.should_keep_alive(),
            expects_continue=self._expects_continue and version == "1.1",
        )
        self._incoming = exchange
        if self._exchange is None:
            self._start(exchange)
        else:
            self._queued.append(exchange)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._since_progress = 0
        if self._incoming is not None:
            self._incoming.body(piece)

    def on_message_complete(self) -> None:
        """Take the end of the body."""
        self._since_progress = 0
        if self._incoming is not None and not self._upgraded:
            self._incoming.end_of_body()
            self._incoming = None

    def _parse(self, data: memoryview) -> None:
        self._since_progress += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal)
            return
        if self._since_progress > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)
            return
        incoming = self._incoming
        if self._queued or (incoming is not None and incoming.holds_unread):
            self._pause_reading()

    def _decline_upgrade(self, rest: memoryview) -> None:
        """Stay with HTTP/1.1, which is allowed (RFC 9110, 7.8).

        llhttp takes what follows the head for another protocol; it is the body, which another
        parser reads. That one gets the head again, without the upgrade.
        """
        exchange, self._upgraded = self._incoming, False
        if exchange is None:
            self._refuse(_BAD)
            return
        exchange.keeps_alive = False
        framing = [
            b"%b: %b\r\n" % (name, value)
            for name, value in exchange.scope["headers"]
            if name in {b"content-length", b"transfer-encoding"}
        ]
        self._parser = httptools.HttpRequestParser(_BodyOnly(self))
        head = b"".join((b"POST / HTTP/1.1\r\n", *framing, b"\r\n"))
        self._parse(memoryview(head + rest))

    def _split_target(self) -> tuple[bytes, bytes]:
        target = self._target
        if target[:1] != b"/":
            absolute = _ABSOLUTE.match(target)
            if absolute is not None:
                target = b"/" + target[absolute.end() :].removeprefix(b"/")
            elif target != b"*":
                self._stop_parsing(_BAD)
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query

    def _stop_parsing(self, status: int) -> None:
        self._refusal = status
        raise ValueError(status)

    def _refuse(self, status: int) -> None:
        """Take nothing more from this client: say why, after the answers that it still gets."""
        self._deaf = True
        if self._incoming is not None:
            self._incoming.break_off()
            self._incoming = None
        if self._exchange is None:
            self.write(refusal(status, self.clock.header()))
            self._close(heard_all=False)
        else:
            self._pause_reading()

    def _start(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._used = True
        task = self._loop.create_task(exchange.run(self._shared.app))
        self._shared.running.add(task)
        task.add_done_callback(self._shared.running.discard)

    def _expect_head(self) -> None:
        self.deadline = self._loop.time() + self._shared.head_seconds

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _close(self, *, heard_all: bool) -> None:
        self._deaf = True
        if heard_all or self._transport.is_closing():
            self._transport.close()
            return
        self.deadline = self._loop.time() + LINGER_SECONDS
        self._transport.write_eof()
        self.resume_reading()


class _BodyOnly:
    """Passes on what a parser finds after a head that is known."""

    def __init__(self, connection: Connection) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete


def _address(found: Any) -> tuple[str, int] | None:
    """Address and port; a Unix socket has none, and IPv6 more than these."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
