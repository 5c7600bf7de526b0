"""Tasks of a service: run beside its subscribers, and ended for certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5

Work = Callable[[], Coroutine[Any, Any, None]]
"""Runs until it is cancelled, or returns when there is nothing left to do."""


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended; what they raise meanwhile no longer matters.

    Once is not enough: nats-py swallows a cancellation that meets it while it flushes.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(work: Iterable[Work], *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
    """Run `work` beside the block; cancel it at the end.

    Args:
        work: what runs.
        on_failure: called when one of it fails, so that the block can end.

    Raises:
        Exception: the first failure, at the end of the block.
    """
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            failures.append(error)
            on_failure()

    tasks = [asyncio.create_task(one()) for one in work]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        await cancel_all(*tasks)
    if failures:
        raise failures[0]
