"""Errors that nothing handled: raised in a task that is not awaited, or in a callback."""

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
def counted() -> Iterator[None]:
    """Count and log them for the length of a block; by itself asyncio only logs.

    To be entered in the event loop whose errors are meant.
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
        # Handled: uvloop does not cancel the look-up of a name with the connection that it is for,
        # and why that was given up is said there. Docker does not find a container that is stopped.
        metrics.FAILURES.labels("name_lookup", kind).inc()
        log.debug("a name was not found, and no connection waits for it any more")
        return
    metrics.FAILURES.labels("unhandled", kind).inc()
    # Behind a bracket asyncio shows the arguments of a callback: a token may be among them.
    log.error(context["message"].partition("(")[0], work=_work(context), exc_info=error)


def _work(context: dict[str, Any]) -> str | None:
    """Name what the task does that the error comes from, if it is one."""
    task = context.get("task") or context.get("future")
    if not isinstance(task, asyncio.Task):
        return None
    name: str | None = getattr(task.get_coro(), "__qualname__", None)
    return name
