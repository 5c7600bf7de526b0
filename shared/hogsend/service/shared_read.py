"""Reads of a PostgreSQL that may be frozen, without waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class SharedRead(Generic[Value]):
    """One read at a time, so that those who keep asking do not use up the pool."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, Value]]) -> None:
        """Prepare without reading."""
        self._read = read
        self._reading: asyncio.Task[Value] | None = None

    async def result(self, within: float) -> Value | None:
        """Give what is read, together with others who ask now; None when it takes longer.

        It is not cancelled then: asyncpg would wait for the frozen server once more.

        Args:
            within: seconds.

        Raises:
            Exception: as the read.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        # Another caller may begin the next one before this one goes on.
        reading = self._reading
        done, _ = await asyncio.wait({reading}, timeout=within)
        return reading.result() if done else None
