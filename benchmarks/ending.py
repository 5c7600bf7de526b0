"""Runs benchmarks so that SIGTERM stops their servers and services first."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_to_end(measuring: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine. SIGTERM cancels it like Ctrl-C, so that it can stop what it started.

    Raises:
        SystemExit: SIGTERM cancelled the coroutine.
    """
    try:
        return uvloop.run(_cancelled_by_sigterm(measuring))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)


async def _cancelled_by_sigterm(measuring: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(measuring)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
