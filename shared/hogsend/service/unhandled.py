"""Errors that nothing handled: raised in a task that is not awaited, or in a callback."""

from __future__ import annotations

import asyncio
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
