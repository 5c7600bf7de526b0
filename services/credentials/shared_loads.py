"""Reads of the store that several callers share, each begun after its callers asked.

Who asks gets a read that began after it asked, as if it had read itself; who asks while a read is
on its way waits for the next one, with everybody else who does. So many questions at once cost two
reads, and nothing is cached that another replica could change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.credentials.stored import Snapshot


class SharedLoads:
    """What is stored for each provider, read once for all who ask at the same time."""

    def __init__(self, load: Callable[[str], Awaitable[Snapshot]]) -> None:
        """Read with `load`."""
        self._load = load
        self._next: dict[str, asyncio.Task[Snapshot]] = {}
        self._running: dict[str, asyncio.Task[Snapshot]] = {}

    async def load(self, provider: str) -> Snapshot:
        """Give what is stored at a moment after the call.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        joined = self._next.get(provider)
        if joined is None:
            before = self._running.get(provider)
            joined = self._next[provider] = asyncio.create_task(self._read(provider, before))
        # Others wait for it, too, when this caller is cancelled.
        return await asyncio.shield(joined)

    async def _read(self, provider: str, before: asyncio.Task[Snapshot] | None) -> Snapshot:
        if before is not None:
            await asyncio.wait((before,))
        # Those who ask from here on must not be given this one.
        reading = self._running[provider] = self._next.pop(provider)
        try:
            return await self._load(provider)
        finally:
            if self._running.get(provider) is reading:
                del self._running[provider]
