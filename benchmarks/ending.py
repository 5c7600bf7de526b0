"""How a run of benchmarks ends early: with everything it started."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_to_end(measuring: Coroutine[Any, Any, T]) -> T:
    """Run to the end. SIGTERM ends it as Ctrl-C does: servers and services are stopped first.

    Raises:
        SystemExit: SIGTERM ended it.
    """
    try:
        return uvloop.run(_until_told(measuring))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)


async def _until_told(measuring: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(measuring)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
