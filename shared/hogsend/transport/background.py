"""Work that its caller does not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[Any]] = set()


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin work in a task of its own, and keep that until it has ended.

    An event loop keeps only a weak reference: a task that nothing else refers to may be collected
    in the middle of its work.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
