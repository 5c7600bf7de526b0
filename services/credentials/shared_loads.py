"""Coalesces concurrent reads of the store.

A caller gets the result of a read that started after its call, as if it had read alone. Callers
that arrive while a read is in flight share the next one. So any number of concurrent calls costs
two reads, and nothing is cached that another replica could change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.credentials.records import Snapshot


class SharedLoads:
    """Reads snapshots of providers, with one read for concurrent callers."""

    def __init__(self, load: Callable[[str], Awaitable[Snapshot]]) -> None:
        """Read with `load`, which takes a provider."""
        self._load = load
        self._next: dict[str, asyncio.Task[Snapshot]] = {}
        self._running: dict[str, asyncio.Task[Snapshot]] = {}

    async def load(self, provider: str) -> Snapshot:
        """Return a snapshot that was read after the call.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        shared = self._next.get(provider)
        if shared is None:
            previous = self._running.get(provider)
            shared = self._next[provider] = asyncio.create_task(self._read(provider, previous))
        # Shielded: cancelling this caller must not cancel the read of the other callers.
        return await asyncio.shield(shared)

    async def _read(self, provider: str, previous: asyncio.Task[Snapshot] | None) -> Snapshot:
        if previous is not None:
            await asyncio.wait((previous,))
        # Later callers must not share this read, which starts now.
        reading = self._running[provider] = self._next.pop(provider)
        try:
            return await self._load(provider)
        finally:
            if self._running.get(provider) is reading:
                del self._running[provider]
