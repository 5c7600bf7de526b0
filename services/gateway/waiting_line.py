"""Requests that wait for room, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class WaitingLine:
    """The first in line makes room now and then. Thousands may wait, and each would look at all."""

    def __init__(self, make_room: Callable[[], None], every_seconds: float) -> None:
        """Call `make_room` every so many seconds while one waits."""
        self._make_room = make_room
        self._every_seconds = every_seconds
        self._turns: deque[asyncio.Event] = deque()

    async def wait(self, has_room: Callable[[], bool]) -> None:
        """Wait for a turn, and for room, which is to be taken before anything else is awaited."""
        if not self._turns and has_room():
            return
        turn = asyncio.Event()
        self._turns.append(turn)
        try:
            while self._turns[0] is not turn or not has_room():
                turn.clear()
                await self._wait(turn)
                # Only the first is woken.
                if not has_room():
                    self._make_room()
        finally:
            self._turns.remove(turn)
            self.look()

    def look(self) -> None:
        """Have the first in line look whether there is room now."""
        if self._turns:
            self._turns[0].set()

    async def _wait(self, turn: asyncio.Event) -> None:
        seconds = self._every_seconds if self._turns[0] is turn else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await turn.wait()
