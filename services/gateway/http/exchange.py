"""One request and its answer: what an ASGI application receives and sends."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, ReceiveMessage

from hogsend.service import metrics
from services.gateway.http.answer_head import Clock, Head, InvalidAnswer, encode_head

log = structlog.get_logger(__name__)

_FAILED: dict[str, Any] = {
    "type": "http.response.start",
    "status": 500,
    "headers": [(b"content-length", b"0"), (b"connection", b"close")],
}


class Wire(Protocol):
    """The connection of an exchange, as far as it is the exchange's business."""

    clock: Clock

    @property
    def ends(self) -> bool:
        """Whether no further request is taken on it."""

    def write(self, data: bytes) -> None:
        """Send."""

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent."""

    def resume_reading(self) -> None:
        """Read on: what was read is taken."""

    def finished(self, exchange: Exchange) -> None:
        """The answer is written whole."""

    def abort(self) -> None:
        """Close it at once."""


class Exchange:
    """A request, and the answer to it."""

    __slots__ = (
        "_answer",
        "_broken",
        "_expects_continue",
        "_gone",
        "_left",
        "_method",
        "_pieces",
        "_read_whole",
        "_start",
        "_version",
        "_waiter",
        "_wire",
        "answered",
        "complete",
        "keeps_alive",
        "scope",
    )

    def __init__(
        self, wire: Wire, scope: HTTPScope, *, keeps_alive: bool, expects_continue: bool
    ) -> None:
        """Take a request whose head is complete.

        Args:
            wire: where it came from.
            scope: what it asks.
            keeps_alive: whether the client may send another one after it.
            expects_continue: whether it waits to be told before it sends its body.
        """
        self.scope = scope
        self.keeps_alive = keeps_alive
        self.complete = False
        """Whether all of the request is here."""
        self.answered = False
        """Whether all of the answer is written."""
        self._wire = wire
        self._version = scope["http_version"]
        # The application may answer `HEAD` by what answers `GET`, and change its scope for that.
        self._method = scope["method"]
        self._expects_continue = expects_continue
        self._pieces: list[bytes] = []
        self._read_whole = False
        self._broken = self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._answer: Head | None = None
        self._left = 0

    @property
    def holds_unread(self) -> bool:
        """Whether there is body here that the application has not asked for yet."""
        return bool(self._pieces)

    def body(self, piece: bytes) -> None:
        """Take a piece of the request's body."""
        if self.answered:
            return
        self._pieces.append(piece)
        self._wake()

    def end_of_body(self) -> None:
        """All of the request is here."""
        self.complete = True
        self._wake()

    def break_off(self) -> None:
        """The rest of the request's body never comes; an answer is still possible."""
        self._broken = True
        self._wake()

    def lose(self) -> None:
        """The client is gone."""
        self._gone = self._broken = True
        self._wake()

    async def run(self, app: ASGIApp) -> None:
        """Have it answered."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:
            metrics.FAILURES.labels("http", type(error).__name__).inc()
            log.exception("a request was not answered")
        finally:
            if not self.answered and not self._gone:
                await self._give_up()

    async def receive(self) -> ReceiveMessage:
        """Give the next of the request's body, or say that the client is gone (ASGI)."""
        while not self._has_news:
            if self._expects_continue:
                self._expects_continue = False
                self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if not self.complete:
                self._wire.resume_reading()
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            # Several may wait, and one of them be cancelled.
            await asyncio.shield(self._waiter)
        if self._gone or self._read_whole or self.answered or not (self._pieces or self.complete):
            return {"type": "http.disconnect"}
        pieces, self._pieces = self._pieces, []
        self._read_whole = self.complete
        return {
            "type": "http.request",
            "body": pieces[0] if len(pieces) == 1 else b"".join(pieces),
            "more_body": not self.complete,
        }

    @property
    def _has_news(self) -> bool:
        if self._pieces or self._broken or self.answered:
            return True
        return self.complete and not self._read_whole

    async def send(self, message: Message) -> None:
        """Send the next of the answer (ASGI); for a client that is gone it does nothing.

        The head goes out with the first of the body.

        Raises:
            InvalidAnswer: that is no answer, or not the next of it.
        """
        if message["type"] == "http.response.start":
            if self._start is not None:
                raise InvalidAnswer("an answer begins twice")
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None:
            raise InvalidAnswer(f"{message['type']} before an answer begins")
        if self._gone:
            return
        if self.answered:
            raise InvalidAnswer("an answer goes on after its end")
        body, more = message.get("body", b""), message.get("more_body", False)
        self._wire.write(self._encoded(self._start, body, more=more))
        if not more:
            if self._left:
                raise InvalidAnswer("an answer is shorter than its content-length")
            self.answered = True
            self._wake()
            self._wire.finished(self)
        await self._wire.drained()

    def _encoded(self, start: Message, body: bytes, *, more: bool) -> bytes:
        answer, head = self._answer, b""
        if answer is None:
            answer = self._answer = encode_head(
                start["status"],  # type: ignore[typeddict-item]
                start.get("headers", ()),  # type: ignore[arg-type]
                self._wire.clock.header(),
                method=self._method,
                version=self._version,
                closes=not self.keeps_alive or not self.complete or self._wire.ends,
                whole=None if more else len(body),
            )
            head = answer.encoded
            self.keeps_alive = not answer.closes
            self._expects_continue = False
            self._left = answer.length or 0 if answer.has_body else 0
        if not answer.has_body:
            return head
        if answer.chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return head + chunk + (b"" if more else b"0\r\n\r\n")
        if answer.length is not None:
            self._left -= len(body)
            if self._left < 0:
                raise InvalidAnswer("an answer is longer than its content-length")
        return head + body

    async def _give_up(self) -> None:
        if self._answer is not None:
            # A client sees that this answer has no end.
            self._wire.abort()
            return
        self._start = None
        await self.send(_FAILED)  # type: ignore[arg-type]
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
