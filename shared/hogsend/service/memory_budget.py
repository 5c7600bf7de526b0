"""A bound on the memory that tasks of one process take together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class _Waiting(NamedTuple):
    size: int
    turn: asyncio.Future[None]


class MemoryBudget:
    """Reserves memory in the order in which it is asked for.

    One that waits keeps those behind from passing: what needs much would otherwise wait for as long
    as others that need little come and go.
    """

    def __init__(self, max_bytes: int) -> None:
        """Allow so many bytes in all, or one reservation of any size."""
        self._max_bytes = max_bytes
        self._waiting: deque[_Waiting] = deque()
        self.held = 0
        """Bytes that are reserved."""

    async def reserve(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and reserve them."""
        if self._waiting or not self._has_room_for(size):
            await self._turn(size)
        else:
            self.held += size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self.held -= size
        while self._waiting and self._has_room_for(self._waiting[0].size):
            admitted = self._waiting.popleft()
            self.held += admitted.size
            # Who was cancelled and has not run since gives it back in `_turn`.
            if not admitted.turn.done():
                admitted.turn.set_result(None)

    @asynccontextmanager
    async def reserved(self, size: int) -> AsyncIterator[None]:
        """Reserve for the length of a block."""
        await self.reserve(size)
        try:
            yield
        finally:
            self.release(size)

    def _has_room_for(self, size: int) -> bool:
        return not self.held or self.held + size <= self._max_bytes

    async def _turn(self, size: int) -> None:
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                # The next one may need less.
                self.release(0)
            else:
                self.release(size)
            raise
