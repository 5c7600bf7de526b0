"""Waits until the threads of a stopped server have ended, before the program exits.

Granian's threads are not started by Python. Before Python 3.14, a thread that needs the interpreter
while Python finalizes aborts the process (exit code -6), so that a test run would fail although all
tests passed.
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
    """Ids of this process's threads that Python did not start."""
    own = {thread.native_id for thread in threading.enumerate()}
    return {thread.id for thread in psutil.Process().threads()} - own


@asynccontextmanager
async def wait_for_server_threads(threads: Threads = foreign_threads) -> AsyncIterator[None]:
    """At the end of the block, wait up to two seconds for threads that were started in it."""
    before = threads()
    try:
        yield
    finally:
        for _ in range(POLLS):
            if not threads() - before:
                break
            await asyncio.sleep(POLL_SECONDS)
