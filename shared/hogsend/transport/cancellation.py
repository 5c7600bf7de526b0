"""Cancellation of tasks that await code which swallows it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def honour_cancellation(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and raise `CancelledError` if this task was cancelled meanwhile.

    It is raised also where `work` swallowed the cancellation, returned or failed with another
    error. A cancellation from before the call does not count: a task that was cancelled may clean
    up, or try again. Before Python 3.13 a task also still counts as cancelled after an
    `asyncio.TaskGroup` in it has failed.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
