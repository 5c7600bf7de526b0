"""Sends large responses in pieces, which limits the memory that slow clients keep occupied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter

from services.gateway.admission_queue import AdmissionQueue

PIECE_BYTES = 32 * 1024
MAX_CONCURRENT = 128
"""Large responses that are sent at the same time. Granian buffers about 300 KiB of each."""
SLOW_SECONDS = 2.0
"""Time in which a client must take a large response while other responses wait."""

CUT_OFF = Counter("hogsend_answers_cut_off", "Large answers given up because clients did not read")


class ReadTooSlowly(TimeoutError):
    """A client did not read a large response in time while other responses waited for a slot."""


class _Slots:
    """Limits how many large responses are sent at the same time."""

    def __init__(self, max_concurrent: int, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._free = max_concurrent
        self._queue = AdmissionQueue(self._abort_slow, slow_seconds / 4)
        self._sending: dict[asyncio.Timeout, float] = {}
        """When each response that occupies a slot was started, by the event loop's clock."""

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and occupy it during the block.

        Raises:
            ReadTooSlowly: the block took longer than `slow_seconds` and others need the slot.
        """
        await self._queue.wait(lambda: self._free > 0)
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
            self._queue.wake_first()

    def _abort_slow(self) -> None:
        slow_since = asyncio.get_running_loop().time() - self._slow_seconds
        for sending, started_at in list(self._sending.items()):
            if started_at <= slow_since:
                CUT_OFF.inc()
                del self._sending[sending]
                sending.reschedule(0)


def with_responses_in_pieces(
    app: ASGIApp, max_concurrent: int = MAX_CONCURRENT, slow_seconds: float = SLOW_SECONDS
) -> ASGIApp:
    """Wrap `app` so that it waits for the client after every piece of a large response.

    Granian keeps a body that it receives whole in memory until the connection ends. Of a body in
    pieces it accepts the next piece only when its buffer has capacity. At most `max_concurrent`
    large responses are sent at a time. While others wait, a response that the client has not taken
    within `slow_seconds` is aborted. A client that never reads, while no response waits, is
    disconnected by the operating system (`listener.listening_socket`).
    """
    slots = _Slots(max_concurrent, slow_seconds)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return

        async def send_in_pieces(message: Message) -> None:
            if message["type"] != "http.response.body" or len(message["body"]) <= PIECE_BYTES:
                await send(message)
                return
            body, more = message["body"], message.get("more_body", False)
            async with slots.slot():
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
