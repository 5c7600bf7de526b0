"""Large answers in pieces, so that a client that does not read holds little and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter

from services.gateway.waiting_line import WaitingLine

PIECE_BYTES = 32 * 1024
AT_ONCE = 128
"""Large answers that are sent at the same time; Granian keeps about 300 KiB for each."""
SLOW_SECONDS = 2.0
"""A client may take this long while others wait."""

CUT_OFF = Counter("hogsend_answers_cut_off", "Large answers given up because clients did not read")


class ReadTooSlowly(TimeoutError):
    """A client did not read its answer, and others waited to be sent theirs."""


class _Slots:
    """Which large answers are sent, and which wait for that."""

    def __init__(self, at_once: int, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._free = at_once
        self._line = WaitingLine(self._give_up_slow, slow_seconds / 4)
        self._sending: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a slot; end the block with `ReadTooSlowly` when others need it."""
        await self._line.wait(lambda: self._free > 0)
        self._free -= 1
        sending = asyncio.timeout(None)
        try:
            async with sending:
                self._sending[sending] = asyncio.get_running_loop().time()
                try:
                    yield
                finally:
                    self._sending.pop(sending, None)
        except TimeoutError:
            if sending.expired():
                raise ReadTooSlowly from None
            raise
        finally:
            self._free += 1
            self._line.look()

    def _give_up_slow(self) -> None:
        slow_since = asyncio.get_running_loop().time() - self._slow_seconds
        for sending, began in list(self._sending.items()):
            if began <= slow_since:
                CUT_OFF.inc()
                del self._sending[sending]
                sending.reschedule(0)


def with_answers_in_pieces(
    app: ASGIApp, at_once: int = AT_ONCE, slow_seconds: float = SLOW_SECONDS
) -> ASGIApp:
    """Wrap `app` so that it waits for the client after every piece of a large answer.

    Granian keeps what it is given at once as long as the connection; of pieces it takes the next
    one when there is room. More than `at_once` large answers wait for one another, and then those
    that a client has not taken within `slow_seconds` are given up. The operating system cuts the
    rest off (`listener.listening_socket`).
    """
    slots = _Slots(at_once, slow_seconds)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return

        async def send_in_pieces(message: Message) -> None:
            if message["type"] != "http.response.body" or len(message["body"]) <= PIECE_BYTES:
                await send(message)
                return
            body, more = message["body"], message.get("more_body", False)
            async with slots.one():
                for start in range(0, len(body), PIECE_BYTES):
                    end = start + PIECE_BYTES
                    await send(
                        {
                            "type": "http.response.body",
                            "body": body[start:end],
                            "more_body": more or end < len(body),
                        }
                    )

        await app(scope, receive, send_in_pieces)

    return wrapped
