"""Logs, metrics and traces of a service's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hogsend.contract.users import User
from hogsend.service import logs, metrics, tracing
from hogsend.service.settings.shared import TelemetrySettings


@asynccontextmanager
async def reporting(service: User, settings: TelemetrySettings) -> AsyncIterator[None]:
    """Set up logs, metrics and traces, and export the last spans at the end of the block.

    The block is to last as long as the process.

    Args:
        service: the service that the process runs.
        settings: of logs and metrics.

    Raises:
        CannotStart: the `OTEL_*` variables enable traces, and OpenTelemetry is not installed.
    """
    logs.configure(service.value, settings)
    metrics.serve(settings.metrics_host, settings.metrics_port)
    tracing.configure(service.value)
    try:
        yield
    finally:
        await asyncio.to_thread(tracing.shut_down)
