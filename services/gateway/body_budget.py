"""How much of all bodies together may be in memory, from their first byte to their answer.

A body that would be too much waits where it is: in its client and in the kernel. The oldest one
never waits, so that there is always one that gets on. Where others wait, a body that takes too long
to arrive is given up: a slow client costs itself.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Counter, Gauge

BUDGET_BYTES = 64 * 1024 * 1024
"""Bodies in memory. Each is held up to four times while it is checked and becomes durable."""
SLOW_SECONDS = 2.0
"""A body that takes longer is slow, once others wait for it."""

IN_MEMORY = Gauge("hogsend_request_bytes", "Bytes of request bodies that are in memory")
GIVEN_UP = Counter("hogsend_slow_bodies", "Bodies given up because others waited for the memory")


class Body:
    """A body in memory, or what has arrived of it."""

    def __init__(self, began: float) -> None:
        """Begin at a time of the event loop's clock."""
        self.began = began
        self.size = 0
        self.given_up = False
        self.receiving: asyncio.Timeout | None = None
        """Ends the receiving of its next piece; None while none is received."""

    def give_up(self) -> None:
        """End its receiving now."""
        self.given_up = True
        if self.receiving is not None and not self.receiving.expired():
            self.receiving.reschedule(0)


class BodyBudget:
    """Counts the bytes of bodies, and makes them wait."""

    def __init__(self, max_bytes: int = BUDGET_BYTES, slow_seconds: float = SLOW_SECONDS) -> None:
        """Allow `max_bytes`, and what one body is more."""
        self._max_bytes = max_bytes
        self._slow_seconds = slow_seconds
        self._bodies: dict[Body, None] = {}
        self._held = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._held

    def add(self, body: Body, size: int) -> None:
        """Count bytes of a body that have arrived."""
        self._bodies[body] = None
        body.size += size
        self._held += size

    def end(self, body: Body) -> None:
        """Forget a body: its request is answered."""
        if body not in self._bodies:
            return
        del self._bodies[body]
        self._held -= body.size
        IN_MEMORY.set(self._held)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def is_full_for(self, body: Body) -> bool:
        """Whether a body has to wait before more of it is received."""
        return self._held >= self._max_bytes and body is not next(iter(self._bodies), body)

    async def wait_for(self, body: Body) -> None:
        """Wait until there is room."""
        IN_MEMORY.set(self._held)
        while self.is_full_for(body):
            self._give_up_slow()
            room = asyncio.get_running_loop().create_future()
            self._waiting.add(room)
            try:
                await asyncio.wait({room}, timeout=self._slow_seconds / 4)
            finally:
                self._waiting.discard(room)

    def _give_up_slow(self) -> None:
        slow_since = asyncio.get_running_loop().time() - self._slow_seconds
        for body in self._bodies:
            if body.receiving is not None and body.began < slow_since and not body.given_up:
                GIVEN_UP.inc()
                body.give_up()
                return
