"""How much of all request bodies together may be in memory, from their first byte to their answer.

A body that would be too much waits where it is, in its client and in the kernel, until those before
it are answered. While others wait, a body that its client sends too slowly is given up: a slow
client costs itself. Small bodies, as nearly all are, are counted and never wait.

Every body has a deadline. One timer looks after all of them: one for each request would cost about
as much as decoding a webhook.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from litestar.types import Scope
from prometheus_client import Counter, Gauge

from services.gateway.waiting_line import WaitingLine

BUDGET_BYTES = 64 * 1024 * 1024
"""Bodies in memory. Each is held up to four times while it is checked and becomes durable."""
SMALL_BYTES = 16 * 1024
SLOW_SECONDS = 2.0
"""A client that lets the gateway wait longer for its body is slow, once others wait for memory."""
SLOW_BYTES_A_SECOND = 256 * 1024
"""It has as much longer as its body takes at this rate."""
SWEEP_SECONDS = 0.25
"""How late a body that misses its deadline may be given up."""

IN_MEMORY = Gauge("hogsend_request_bytes", "Bytes of request bodies that are in memory or expected")
GIVEN_UP = Counter("hogsend_slow_bodies", "Bodies given up because others waited for the memory")


class Body:
    """A request's body, of a size that it does not exceed."""

    __slots__ = (
        "_client_seconds",
        "_expired",
        "_since",
        "_waiting",
        "admitted",
        "deadline",
        "given_up",
        "size",
    )

    def __init__(self, size: int, deadline: float) -> None:
        """Expect `size` bytes at most, until `deadline` by `time.monotonic`."""
        self.size = size
        self.deadline = deadline
        self.admitted = False
        self.given_up = False
        self._client_seconds = 0.0
        self._expired = False
        self._since: float | None = None
        self._waiting: asyncio.Task[Any] | None = None

    def waits_for_client(self) -> None:
        """Count the time from now on as the client's."""
        self._since = monotonic()

    def begin(self) -> None:
        """Let `expire` end what this task waits for from now on."""
        self._expired = False
        self._waiting = asyncio.current_task()

    def end(self) -> None:
        """Wait for nothing any more."""
        if self._since is not None:
            self._client_seconds += monotonic() - self._since
        self._waiting = self._since = None

    def is_slow(self, seconds: float) -> bool:
        """Whether its client lets us wait at this moment, and has done so for too long."""
        if self._since is None:
            return False
        waited = self._client_seconds + monotonic() - self._since
        return waited >= seconds + self.size / SLOW_BYTES_A_SECOND

    def give_up(self) -> None:
        """End the waiting, for the sake of others."""
        self.given_up = True
        self.expire()

    def expire(self) -> None:
        """End the waiting."""
        if self._waiting is not None and not self._expired:
            self._expired = True
            self._waiting.cancel()

    def ended_by_expiry(self) -> bool:
        """Whether the cancellation that arrived is `expire`'s alone."""
        # As `asyncio.timeout` does it, which would make an object for each request.
        return self._expired and self._waiting is not None and self._waiting.uncancel() == 0


class BodyBudget:
    """Admits bodies, in the order in which they come."""

    def __init__(
        self,
        largest: int,
        *,
        max_bytes: int = BUDGET_BYTES,
        small_bytes: int = SMALL_BYTES,
        slow_seconds: float = SLOW_SECONDS,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        """Allow `max_bytes`, or one body of any size.

        Args:
            largest: size of a body that does not say its own.
            max_bytes: of all bodies that are not small.
            small_bytes: up to which size a body is small.
            slow_seconds: see `SLOW_SECONDS`.
            sweep_seconds: see `SWEEP_SECONDS`.
        """
        self._largest = largest
        self._max_bytes = max_bytes
        self._small_bytes = small_bytes
        self._slow_seconds = slow_seconds
        self._sweep_seconds = sweep_seconds
        self._bodies: dict[Body, None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._line = WaitingLine(self._give_up_slow, slow_seconds / 4)
        self.held = 0
        """Bytes admitted."""
        IN_MEMORY.set_function(lambda: self.held)

    def body_of(self, scope: Scope, seconds: float) -> Body:
        """Give the body that a request announces, which must be there within `seconds`."""
        headers = dict(scope["headers"])
        size, announced = self._largest, headers.get(b"content-length")
        if announced is None and b"transfer-encoding" not in headers:
            # There is none (RFC 9112, 6.3). A stream, such as the console's live events, would hold
            # the room of a large one for as long as it lasts.
            size = 0
        # One that is encoded grows when it is decoded.
        elif announced is not None and announced.isdigit() and b"content-encoding" not in headers:
            size = min(int(announced), size)
        return Body(size, monotonic() + seconds)

    def watch(self, body: Body) -> None:
        """End what the current task waits for when the body's deadline has passed."""
        body.begin()
        self._bodies[body] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._sweep_seconds, self._expire)

    async def admit(self, body: Body) -> None:
        """Wait until there is room for all of a body."""
        if body.size > self._small_bytes:
            await self._line.wait(lambda: self._has_room_for(body))
        body.admitted = True
        self.held += body.size

    def end(self, body: Body) -> None:
        """Forget a body: its request is answered."""
        self._bodies.pop(body, None)
        if body.admitted:
            body.admitted = False
            self.held -= body.size
            self._line.look()

    def _has_room_for(self, body: Body) -> bool:
        return self.held == 0 or self.held + body.size <= self._max_bytes

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = monotonic()
        for body in self._bodies:
            if body.deadline <= now:
                body.expire()
        again = loop.call_later(self._sweep_seconds, self._expire) if self._bodies else None
        self._sweep = again

    def _give_up_slow(self) -> None:
        for body in self._bodies:
            if not body.given_up and body.is_slow(self._slow_seconds):
                GIVEN_UP.inc()
                body.give_up()
