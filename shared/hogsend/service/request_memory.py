"""How much memory all requests in work of one process may take.

One request of 8 MB may take 290 MB decoded, and a process answers many at a time. One that would
be too much waits until those before it are answered; one that would be too much alone is refused.
Small requests, as nearly all are, never wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from hogsend.contract.errors import TooLarge
from hogsend.contract.json_memory import MAX_DECODED_BYTES, decoded_bytes

SMALL_BYTES = 16 * 1024
"""Length of a request up to which it is small."""


class _Waiting(NamedTuple):
    size: int
    turn: asyncio.Future[None]


class RequestMemory:
    """Admits the requests of one process, in the order in which they come."""

    def __init__(self, max_bytes: int = MAX_DECODED_BYTES) -> None:
        """Allow so many bytes in all."""
        self._max_bytes = max_bytes
        self._waiting: deque[_Waiting] = deque()
        self.held = 0
        """Bytes of the requests in work."""

    async def admit(self, body: bytes) -> int:
        """Wait until there is room for a request.

        Returns:
            How many bytes it was taken for, to `free` when it is answered.

        Raises:
            TooLarge: it would take more than all may.
        """
        if len(body) <= SMALL_BYTES:
            size = len(body)
        else:
            size = decoded_bytes(body)
            if size > self._max_bytes:
                raise TooLarge(
                    f"the request would take about {size >> 20} MiB of memory, more than "
                    f"{self._max_bytes >> 20} MiB; ask with fewer values at a time"
                )
            if self._waiting or self.held + size > self._max_bytes:
                await self._turn(size)
                return size
        self.held += size
        return size

    def free(self, size: int) -> None:
        """Give back the memory of a request that is answered."""
        self.held -= size
        while self._waiting and self.held + self._waiting[0].size <= self._max_bytes:
            admitted = self._waiting.popleft()
            self.held += admitted.size
            # Who was cancelled and has not run since gives it back in `_turn`.
            if not admitted.turn.done():
                admitted.turn.set_result(None)

    async def _turn(self, size: int) -> None:
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                # The next one may need less.
                self.free(0)
            else:
                self.free(size)
            raise
