"""Starts the gateway's process: the gateway itself, or the parent of several workers.

A parent (`GATEWAY_WORKERS` above 1) does not import the code that only its workers run, to save
memory.
"""

from __future__ import annotations

import asyncio
import importlib
import os

import structlog
from prometheus_client.registry import CollectorRegistry

from hogsend.contract.users import User
from hogsend.service import garbage_collection, logs, metrics
from hogsend.service.settings.shared import TelemetrySettings
from hogsend.service.tasks import running
from services.gateway.listener import port_for_workers
from services.gateway.liveness import LivenessListener
from services.gateway.settings import GatewaySettings
from services.gateway.workers.identity import is_worker
from services.gateway.workers.parent import Parent, WorkersMetrics

log = structlog.get_logger(__name__)


async def run() -> int:
    """Run until SIGTERM or SIGINT, and return the exit code.

    Raises:
        CannotStart: the process cannot run; the message names the cause.
    """
    settings = GatewaySettings()
    if settings.gateway_workers > 1 and not is_worker(os.environ):
        return await _run_parent(settings)
    app = importlib.import_module("services.gateway.app")
    garbage_collection.configure()
    await app.run()
    return 0


async def _run_parent(settings: GatewaySettings) -> int:
    observed = TelemetrySettings()
    logs.configure(User.GATEWAY.value, observed)
    port = port_for_workers(
        settings.gateway_host,
        settings.gateway_port,
        share=settings.gateway_share_port,
        environment=os.environ,
    )
    log.info("listening", url=settings.listening_url)
    parent = Parent(settings, observed, port)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkersMetrics(parent, asyncio.get_running_loop()))
    metrics.serve(observed.metrics_host, observed.metrics_port, registry)
    liveness = LivenessListener(settings.gateway_host, settings.gateway_liveness_port)
    async with running([liveness.serve], on_failure=parent.stop):
        return await parent.run()
