"""Waits for the threads that a server has left, before the program goes on to its end.

Granian's threads are not Python's. One that still wants the interpreter while Python finalizes
makes the whole process abort (exit code -6, before Python 3.14): a program whose tests have all
passed would fail.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil

POLL_SECONDS = 0.005
POLLS = 400

Threads = Callable[[], set[int]]


def foreign_threads() -> set[int]:
    """Ids of this process's threads that Python has not started."""
    own = {thread.native_id for thread in threading.enumerate()}
    return {thread.id for thread in psutil.Process().threads()} - own


@asynccontextmanager
async def none_left(threads: Threads = foreign_threads) -> AsyncIterator[None]:
    """Wait at the end of the block, for two seconds at most, for threads that it has started."""
    before = threads()
    try:
        yield
    finally:
        for _ in range(POLLS):
            if not threads() - before:
                break
            await asyncio.sleep(POLL_SECONDS)
