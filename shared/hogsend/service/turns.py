"""Which of the workers that share a consumer asks it next.

Several workers keep a backlog moving: while one waits for PostgreSQL, another decodes. Where there
is no backlog each of them would get a message or two, and a batch costs about as much as twenty
messages, however few are in it. So they take turns: one asks, and while it works on a batch that
was not full the next messages gather. They come as one batch, and in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_SECONDS = 0.1
"""How long a batch that was not full keeps other workers from asking."""


class Turn:
    """One worker's; it ends with the batch at the latest."""

    __slots__ = ("_over", "_turns")

    def __init__(self, turns: asyncio.Lock) -> None:
        self._turns = turns
        self._over = False

    def end(self) -> None:
        """Let the next worker ask."""
        if not self._over:
            self._over = True
            self._turns.release()

    def end_within(self, seconds: float) -> None:
        """Let the next worker ask when the batch takes longer than `seconds`."""
        asyncio.get_running_loop().call_later(seconds, self.end)


class Turns:
    """The turns of a subscriber's workers."""

    def __init__(self) -> None:
        """Begin without callers."""
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and end it with the block unless it has ended before."""
        await self._lock.acquire()
        turn = Turn(self._lock)
        try:
            yield turn
        finally:
            turn.end()
