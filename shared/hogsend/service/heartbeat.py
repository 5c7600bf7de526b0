"""Tells a container's health check that the event loop still turns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from hogsend.service import metrics

log = structlog.get_logger(__name__)

TOUCH_SECONDS = 5.0


async def touch_forever(file: Path | None) -> None:
    """Touch `file` every `TOUCH_SECONDS`; nothing without one.

    It says that this process works, not that everything it needs is there: a service that waits
    for NATS or PostgreSQL must not be restarted for it.
    """
    while file is not None:
        touch(file)
        await asyncio.sleep(TOUCH_SECONDS)


def touch(file: Path | None) -> None:
    """Touch `file`, if there is one; what goes wrong is said and counted."""
    if file is None:
        return
    try:
        file.touch()
    except OSError as error:
        metrics.FAILURES.labels("health_file", type(error).__name__).inc()
        log.warning("the health file cannot be written", file=str(file), reason=str(error))
