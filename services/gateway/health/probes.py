"""Probes of the services, the stored credential and NATS over the bus. None of them raises."""

from __future__ import annotations

import asyncio
import time

import structlog

from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, POSTHOG, ProviderRef
from hogsend.contract.errors import HogsendError
from hogsend.contract.health import (
    ANALYTICS_HEALTH,
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    ServiceHealth,
)
from hogsend.contract.registry import Endpoint
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.gateway.health.documents import CredentialHealth

log = structlog.get_logger(__name__)

PROBE_SECONDS = 1.5
"""Timeout of a service's health probe."""

PROBES: tuple[Endpoint[Empty, ServiceHealth], ...] = (
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    ANALYTICS_HEALTH,
)


async def probe(
    bus: Connection, endpoint: Endpoint[Empty, ServiceHealth]
) -> tuple[str, ServiceHealth | None, float | None]:
    """Request the health of a service.

    Returns:
        The service, and its reply with the latency in milliseconds, or None twice without a reply.
    """
    started = time.perf_counter()
    try:
        reply = await bus.request(endpoint, Empty(), deadline=PROBE_SECONDS)
    except HogsendError as error:
        _log_unknown(endpoint.service, error)
        return endpoint.service, None, None
    return endpoint.service, reply, _milliseconds_since(started)


async def read_credential(bus: Connection) -> CredentialHealth:
    """Return the state of the stored credential; `unknown` if credentials does not reply."""
    provider = ProviderRef(provider_id=POSTHOG)
    try:
        status = await bus.request(CREDENTIALS_STATUS, provider, deadline=PROBE_SECONDS)
    except HogsendError as error:
        _log_unknown("credential", error)
        return CredentialHealth("unknown")
    return CredentialHealth(
        "needs_reconnect" if status.needs_reconnect else status.oauth, status.version
    )


async def measure_bus(bus: Connection) -> float | None:
    """Return the latency of NATS in milliseconds; None while it does not respond."""
    if not bus.connected:
        return None
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await bus.client.flush()
    except Exception as error:  # noqa: BLE001 - any error means that the bus is not up
        _log_unknown("bus", error)
        return None
    return _milliseconds_since(started)


def _log_unknown(component: str, error: Exception) -> None:
    # Logged at debug only: the response reports it as well, and is requested every few seconds.
    FAILURES.labels("health", component).inc()
    log.debug("health is not known", of=component, reason=str(error) or type(error).__name__)


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
