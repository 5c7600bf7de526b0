"""What a service process says about itself: logs, metrics and traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hogsend.contract.users import User
from hogsend.service import logs, metrics, tracing
from hogsend.service.settings.shared import TelemetrySettings


@asynccontextmanager
async def reporting(service: User, settings: TelemetrySettings) -> AsyncIterator[None]:
    """Log, count and trace for the length of the block, which is the life of the process.

    Args:
        service: whose process this is.
        settings: the operator's.

    Raises:
        CannotStart: traces are wanted, and OpenTelemetry is not installed.
    """
    logs.configure(service.value, settings)
    metrics.serve(settings.metrics_host, settings.metrics_port)
    tracing.configure(service.value)
    try:
        yield
    finally:
        await asyncio.to_thread(tracing.shut_down)
