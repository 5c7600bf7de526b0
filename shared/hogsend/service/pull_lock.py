"""Lets one of the workers that share a consumer pull at a time.

Several workers keep a backlog moving: while one waits for PostgreSQL, another one decodes. Without
a backlog, workers that all pull would each get a message or two, and a batch costs about as much as
twenty messages, however few it contains. So only one worker pulls. While it processes a batch that
was not full, the next messages gather, and are delivered as one batch and in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PARTIAL_BATCH_SECONDS = 0.1
"""How long a worker that processes a batch that was not full keeps the others from pulling."""


class PullPermit:
    """The right of one worker to pull, until its batch is processed at the latest."""

    __slots__ = ("_is_released", "_lock")

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._is_released = False

    def release(self) -> None:
        """Let the next worker pull; does nothing when the permit was released before."""
        if not self._is_released:
            self._is_released = True
            self._lock.release()

    def release_after(self, seconds: float) -> None:
        """Let the next worker pull when the batch takes longer than `seconds`."""
        asyncio.get_running_loop().call_later(seconds, self.release)


class PullLock:
    """The lock that the workers of one subscriber share."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[PullPermit]:
        """Wait for the permit, and release it at the end of the block at the latest."""
        await self._lock.acquire()
        permit = PullPermit(self._lock)
        try:
            yield permit
        finally:
            permit.release()
