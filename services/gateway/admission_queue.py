"""A first-in, first-out queue of requests that wait for capacity, such as memory or slots."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class AdmissionQueue:
    """Admits waiting requests in the order of their arrival.

    Only the first one in the queue checks for capacity and tries to free some, at an interval.
    Thousands may wait, and a check of each of them would cost more than the requests themselves.
    """

    def __init__(self, free_capacity: Callable[[], None], every_seconds: float) -> None:
        """Call `free_capacity` every `every_seconds` while a request waits."""
        self._free_capacity = free_capacity
        self._every_seconds = every_seconds
        self._waiting: deque[asyncio.Event] = deque()

    async def wait(self, has_capacity: Callable[[], bool]) -> None:
        """Wait until this request is the first one and `has_capacity` is true.

        The caller must reserve the capacity before it awaits anything else: the next request is
        woken when this returns.
        """
        # Invariant: a request is admitted only when no earlier one waits in this queue.
        # Why: a request that needs much would otherwise be overtaken as long as those that need
        # little keep arriving.
        # Without it: large requests would starve under load.
        if not self._waiting and has_capacity():
            return
        woken = asyncio.Event()
        self._waiting.append(woken)
        try:
            while self._waiting[0] is not woken or not has_capacity():
                woken.clear()
                await self._wait(woken)
                # Only the first one is woken, so only the first one frees capacity.
                if not has_capacity():
                    self._free_capacity()
        finally:
            # Invariant: the next request is woken however this one leaves the queue.
            # Why: a request may also be cancelled while it is the first one.
            # Without it: all later requests would wait for a request that no longer exists.
            self._waiting.remove(woken)
            self.wake_first()

    def wake_first(self) -> None:
        """Have the first waiting request check for capacity. Call this when capacity was freed."""
        if self._waiting:
            self._waiting[0].set()

    async def _wait(self, woken: asyncio.Event) -> None:
        seconds = self._every_seconds if self._waiting[0] is woken else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()
