"""A read of PostgreSQL that all current callers share, and that none of them waits long for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class SharedRead(Generic[Value]):
    """Runs at most one read at a time; callers that come meanwhile get the result of that read.

    With a read each, callers that poll while PostgreSQL is frozen would use up the connection pool.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, Value]]) -> None:
        """Share `read`, which runs when the first caller needs it."""
        self._read = read
        self._running: asyncio.Task[Value] | None = None

    async def result(self, within: float) -> Value | None:
        """Return what the running read returns, starting one if none runs; None on a timeout.

        A read that times out is not cancelled: asyncpg would then wait for the frozen server once
        more, to cancel the statement there. It continues, and a later caller may get its result.

        Args:
            within: timeout in seconds.

        Raises:
            Exception: whatever the read raised.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._read())
        # Kept in a local: another caller may start the next read before this one resumes.
        running = self._running
        done, _ = await asyncio.wait({running}, timeout=within)
        return running.result() if done else None
