"""The sources of destinations are cached, so that a slow PostgreSQL delays no read for long."""

from __future__ import annotations

import asyncio
from typing import Any

from services.analytics.delivery.destination_cache import DestinationCache
from services.analytics.delivery.sources.source import Source
from tests.virtual_time import now, on_virtual_time


@on_virtual_time
async def test_a_frozen_postgresql_is_read_once_with_a_short_wait() -> None:
    reads, thaw = 0, asyncio.Event()
    source: Any = object()

    async def read() -> list[Source]:
        nonlocal reads
        reads += 1
        await thaw.wait()
        return [source]

    destinations = DestinationCache(read, now)
    for _ in range(4):
        started = now()
        assert await destinations.current() == ()
        assert now() - started == 0.5
    assert reads == 1
    thaw.set()
    assert len(await destinations.current()) == 1
