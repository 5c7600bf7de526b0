"""Caches the sources of all destinations, which PostgreSQL stores, for one second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.sources.source import Source

log = structlog.get_logger(__name__)

DESTINATIONS_SECONDS = 1.0
"""How long a list of destinations is used before it is read again."""
READING_SECONDS = 0.5
"""Longest wait for PostgreSQL to return the destinations. Reads of persons wait as long."""


class DestinationCache:
    """Sources of all destinations: read again after a second, and kept while that fails."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[Source]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._sources: Sequence[Source] = ()
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def current(self) -> Sequence[Source]:
        """Return a source for each destination. Never raises; waits `READING_SECONDS` at most."""
        now = self._clock()
        is_old = self._read_at is None or now - self._read_at >= DESTINATIONS_SECONDS
        if is_old and (self._reading is None or self._reading.done()):
            self._read_at = now
            self._reading = asyncio.create_task(self._refresh())
        if self._reading is not None:
            # Not cancelled after the timeout: asyncpg would wait for a frozen server once more.
            await asyncio.wait({self._reading}, timeout=READING_SECONDS)
        return self._sources

    async def _refresh(self) -> None:
        try:
            self._sources = await self._read()
        except Unavailable as error:
            FAILURES.labels("destinations", error.code).inc()
            log.debug("destinations cannot be read now", reason=str(error))
