"""Background tasks of a service, and reliable cancellation of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5
"""How long to wait for cancelled tasks before they are cancelled once more."""

Work = Callable[[], Coroutine[Any, Any, None]]
"""Runs until it is cancelled; may return earlier when it has nothing more to do."""


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until all have ended; their exceptions are ignored.

    Tasks that do not end are cancelled repeatedly: nats-py's flush swallows a cancellation.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(work: Iterable[Work], *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
    """Run tasks during the block, and cancel them at its end.

    Args:
        work: one function for each task.
        on_failure: called when a task fails, to end the block.

    Raises:
        Exception: the first exception of a task, raised at the end of the block.
    """
    failures: list[BaseException] = []

    def collect_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            failures.append(error)
            on_failure()

    tasks = [asyncio.create_task(function()) for function in work]
    for task in tasks:
        task.add_done_callback(collect_failure)
    try:
        yield
    finally:
        await cancel_all(*tasks)
    if failures:
        raise failures[0]
