"""Limits how much memory all request bodies take together, from the first byte to the response.

A body that does not fit is not read: it stays in the client and the kernel until earlier requests
are answered. While bodies wait, a body whose client sends too slowly is aborted, so that a slow
client does not delay other clients. Small bodies, which nearly all are, are counted but never wait.

Every body has a deadline. One timer checks all of them: a timer for each request would cost about
as much as decoding a webhook.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from litestar.types import Scope
from prometheus_client import Counter, Gauge

from services.gateway.admission_queue import AdmissionQueue

BUDGET_BYTES = 64 * 1024 * 1024
"""Bodies in memory. Up to four copies of each exist while it is checked and made durable."""
SMALL_BYTES = 16 * 1024
SLOW_SECONDS = 2.0
"""A client that keeps the gateway waiting longer for its body is slow, once others wait for memory.

It has additional time in proportion to its body's size: `SLOW_BYTES_A_SECOND`.
"""
SLOW_BYTES_A_SECOND = 256 * 1024
SWEEP_SECONDS = 0.25
"""Interval of the timer: a body is aborted at most this long after its deadline."""

IN_MEMORY = Gauge("hogsend_request_bytes", "Bytes of request bodies that are in memory or expected")
ABORTED = Counter("hogsend_slow_bodies", "Bodies given up because others waited for the memory")


class Body:
    """The body of one request, of at most `size` bytes."""

    __slots__ = (
        "_client_seconds",
        "_expired",
        "_since",
        "_task",
        "aborted",
        "admitted",
        "deadline",
        "size",
    )

    def __init__(self, size: int, deadline: float) -> None:
        """Expect at most `size` bytes until `deadline`, a time of `time.monotonic`."""
        self.size = size
        self.deadline = deadline
        self.admitted = False
        self.aborted = False
        self._client_seconds = 0.0
        self._expired = False
        self._since: float | None = None
        self._task: asyncio.Task[Any] | None = None

    def start_waiting(self) -> None:
        """Allow `expire` to cancel the current task until `stop_waiting`."""
        self._expired = False
        self._task = asyncio.current_task()

    def start_client_time(self) -> None:
        """Count the time until `stop_waiting` as time in which the client sends nothing."""
        self._since = monotonic()

    def stop_waiting(self) -> None:
        """Undo `start_waiting` and stop the client's time."""
        if self._since is not None:
            self._client_seconds += monotonic() - self._since
        self._task = self._since = None

    def is_slow(self, seconds: float) -> bool:
        """Whether the gateway waits for the client now, and has done so too long in all."""
        if self._since is None:
            return False
        waited = self._client_seconds + monotonic() - self._since
        return waited >= seconds + self.size / SLOW_BYTES_A_SECOND

    def abort(self) -> None:
        """Cancel the waiting task to free memory for other bodies."""
        self.aborted = True
        self.expire()

    def expire(self) -> None:
        """Cancel the task that waits for the body, if one does."""
        if self._task is not None and not self._expired:
            self._expired = True
            self._task.cancel()

    def ended_by_expiry(self) -> bool:
        """Whether `expire` is the only cause of the CancelledError that was raised."""
        # This is what `asyncio.timeout` does, without its object for each request.
        return self._expired and self._task is not None and self._task.uncancel() == 0


class BodyBudget:
    """Admits bodies in the order of their arrival, as memory allows."""

    def __init__(
        self,
        largest: int,
        *,
        max_bytes: int = BUDGET_BYTES,
        small_bytes: int = SMALL_BYTES,
        slow_seconds: float = SLOW_SECONDS,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        """Allow `max_bytes` in all, or one large body of any size.

        Args:
            largest: assumed size of a body that does not announce its own, in bytes.
            max_bytes: limit for all bodies.
            small_bytes: bodies up to this size are small and never wait.
            slow_seconds: see `SLOW_SECONDS`.
            sweep_seconds: see `SWEEP_SECONDS`.
        """
        self._largest = largest
        self._max_bytes = max_bytes
        self._small_bytes = small_bytes
        self._slow_seconds = slow_seconds
        self._sweep_seconds = sweep_seconds
        self._bodies: dict[Body, None] = {}
        """Bodies of requests that are not answered yet, in the order of their arrival."""
        self._sweep: asyncio.TimerHandle | None = None
        self._queue = AdmissionQueue(self._abort_slow, slow_seconds / 4)
        self.admitted_bytes = 0
        self._large_bytes = 0
        """Admitted bytes of bodies that are not small."""
        IN_MEMORY.set_function(lambda: self.admitted_bytes)

    def body_of(self, scope: Scope, seconds: float) -> Body:
        """Return the body that a request announces. It must be complete within `seconds`."""
        headers = dict(scope["headers"])
        size, announced = self._largest, headers.get(b"content-length")
        if announced is None and b"transfer-encoding" not in headers:
            # The request has no body (RFC 9112, 6.3). If it counted as a large one, a stream such
            # as the console's live events would reserve that memory as long as it is open.
            size = 0
        # An encoded body grows when it is decoded, so its announced size is no limit.
        elif announced is not None and announced.isdigit() and b"content-encoding" not in headers:
            size = min(int(announced), size)
        return Body(size, monotonic() + seconds)

    def watch(self, body: Body) -> None:
        """Cancel the current task once the body's deadline has passed, until `stop_waiting`."""
        body.start_waiting()
        self._bodies[body] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._sweep_seconds, self._expire)

    async def admit(self, body: Body) -> None:
        """Wait until the whole body fits into memory, and reserve the memory."""
        if body.size > self._small_bytes:
            await self._queue.wait(lambda: self._has_capacity_for(body))
            self._large_bytes += body.size
        body.admitted = True
        self.admitted_bytes += body.size

    def release(self, body: Body) -> None:
        """Release the memory of a body whose request is answered."""
        self._bodies.pop(body, None)
        if body.admitted:
            body.admitted = False
            self.admitted_bytes -= body.size
            if body.size > self._small_bytes:
                self._large_bytes -= body.size
                self._queue.wake_first()

    def _has_capacity_for(self, body: Body) -> bool:
        # Invariant: the first body in the queue is admitted once the large ones before it end.
        # Why: small bodies do not wait, so under load there may always be some in memory.
        # Without it: a body above `max_bytes`, or a little below, would starve.
        return self._large_bytes == 0 or self.admitted_bytes + body.size <= self._max_bytes

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = monotonic()
        for body in self._bodies:
            if body.deadline <= now:
                body.expire()
        self._sweep = loop.call_later(self._sweep_seconds, self._expire) if self._bodies else None

    def _abort_slow(self) -> None:
        for body in self._bodies:
            if not body.aborted and body.is_slow(self._slow_seconds):
                ABORTED.inc()
                body.abort()
