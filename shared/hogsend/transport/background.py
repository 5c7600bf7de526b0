"""Tasks that continue when their caller does not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def run_in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task, and keep a reference to the task until it has ended.

    An event loop keeps only a weak reference to a task. Without another one, the task may be
    garbage-collected before its work is done.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
