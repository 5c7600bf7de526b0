"""The health file, which shows a container's health check that the event loop runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from hogsend.service import metrics

log = structlog.get_logger(__name__)

TOUCH_SECONDS = 5.0


async def touch_periodically(file: Path | None) -> None:
    """Touch `file` every `TOUCH_SECONDS` until cancelled; returns at once if it is None.

    The file shows that the process itself works, not that NATS and PostgreSQL are available. A
    service that waits for one of them must not be restarted.
    """
    while file is not None:
        touch(file)
        await asyncio.sleep(TOUCH_SECONDS)


def touch(file: Path | None) -> None:
    """Touch `file` unless it is None; a failure is logged and counted."""
    if file is None:
        return
    try:
        file.touch()
    except OSError as error:
        metrics.FAILURES.labels("health_file", type(error).__name__).inc()
        log.warning("the health file cannot be written", file=str(file), reason=str(error))
