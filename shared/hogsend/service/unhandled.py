"""Counts and logs unhandled errors: those of callbacks, and of tasks that nothing awaits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from hogsend.service import metrics

log = structlog.get_logger(__name__)


@contextmanager
def reporting() -> Iterator[None]:
    """Count and log the unhandled errors of the running event loop during the block.

    asyncio's default handler only logs them.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(_count)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def _count(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    kind = type(error).__name__ if error is not None else "none"
    if isinstance(error, socket.gaierror) and not isinstance(context.get("future"), asyncio.Task):
        # uvloop does not cancel a DNS query with the connection attempt that it belongs to. When
        # it fails later, the failed attempt has already been handled. Common with Docker, whose DNS
        # does not resolve the names of stopped containers.
        metrics.FAILURES.labels("name_lookup", kind).inc()
        log.debug("a DNS query failed after its connection attempt had ended")
        return
    metrics.FAILURES.labels("unhandled", kind).inc()
    # After the bracket asyncio writes the arguments of a callback, which may include a token.
    log.error(context["message"].partition("(")[0], work=_task_function(context), exc_info=error)


def _task_function(context: dict[str, Any]) -> str | None:
    """Return the name of the function that the failed task runs; None if it was no task."""
    task = context.get("task") or context.get("future")
    if not isinstance(task, asyncio.Task):
        return None
    name: str | None = getattr(task.get_coro(), "__qualname__", None)
    return name
