"""Limits the memory that the tasks of one process use together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class _Waiter(NamedTuple):
    size: int
    admitted: asyncio.Future[None]


class MemoryBudget:
    """Reserves memory in the order of the requests.

    A reservation that waits also blocks all later ones, however small. Otherwise a large one would
    wait for as long as small ones keep coming.
    """

    def __init__(self, max_bytes: int) -> None:
        """Allow `max_bytes` in all. A larger reservation is admitted when it is the only one."""
        self._max_bytes = max_bytes
        self._waiters: deque[_Waiter] = deque()
        self.reserved_bytes = 0

    async def reserve(self, size: int) -> None:
        """Wait until `size` bytes are available, and reserve them."""
        if self._waiters or not self._fits(size):
            await self._wait(size)
        else:
            self.reserved_bytes += size

    def release(self, size: int) -> None:
        """Release a reservation, and admit the waiters that fit now."""
        self.reserved_bytes -= size
        while self._waiters and self._fits(self._waiters[0].size):
            waiter = self._waiters.popleft()
            self.reserved_bytes += waiter.size
            # A waiter that was cancelled and has not run since releases it itself, in `_wait`.
            if not waiter.admitted.done():
                waiter.admitted.set_result(None)

    @asynccontextmanager
    async def reserved(self, size: int) -> AsyncIterator[None]:
        """Reserve `size` bytes for the block."""
        await self.reserve(size)
        try:
            yield
        finally:
            self.release(size)

    def _fits(self, size: int) -> bool:
        return not self.reserved_bytes or self.reserved_bytes + size <= self._max_bytes

    async def _wait(self, size: int) -> None:
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                # The next waiter may be smaller, and fit.
                self.release(0)
            else:
                self.release(size)
            raise
