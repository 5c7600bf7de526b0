"""Runs work to its end when the task is cancelled, as on shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def shielded(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end, then raise a cancellation that arrived meanwhile.

    Unlike `asyncio.shield`, this also waits for the work when it is cancelled repeatedly.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
