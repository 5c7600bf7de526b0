"""Gauges that are updated periodically: capabilities, the destination in PostHog, and the disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Never, get_args, get_type_hints

import structlog
from prometheus_client import Gauge

from hogsend.contract.capabilities import CapabilityState
from hogsend.contract.errors import HogsendError
from hogsend.contract.provisioning import DestinationFinding
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.gateway.capabilities import ORDER, query
from services.gateway.webhooks.secret import WebhookSecret

log = structlog.get_logger(__name__)

DISK_SECONDS = 15.0
CAPABILITIES_SECONDS = 300.0
"""Interval of the checks. Each check sends PostHog a few requests, which count to its limits."""

CAPABILITY = Gauge(
    "hogsend_capability_state",
    "1 for the state of a capability: `on`, `off`, `unknown`; checked every five minutes",
    ["capability", "state"],
)
DESTINATION = Gauge(
    "hogsend_posthog_destination_state",
    "1 for the state of our destination in PostHog, such as `live`, `degraded`, "
    "`disabled_by_posthog`, `missing`, `unknown`; checked every five minutes",
    ["state"],
)
STOPPED = Gauge(
    "hogsend_posthog_destination_stopped",
    "1 while a destination that was set up no longer delivers, because it was changed or deleted "
    "in PostHog, or the secret or address was changed here; checked every five minutes",
)
DISK = Gauge("hogsend_spool_disk_bytes", "Size of the file system that the spool is on")
DISK_FREE = Gauge(
    "hogsend_spool_disk_free_bytes", "Bytes free for the gateway on the spool's file system"
)

CAPABILITY_STATES: tuple[str, ...] = get_args(CapabilityState)
DESTINATION_STATES: tuple[str, ...] = get_args(get_type_hints(DestinationFinding)["state"])
_UNKNOWN = DestinationFinding(state="unknown")


async def keep_checking_capabilities(
    bus: Connection, webhook_secret: WebhookSecret, *, signatures_required: bool
) -> Never:
    """Check the capabilities every `CAPABILITIES_SECONDS`."""
    while True:
        await asyncio.sleep(CAPABILITIES_SECONDS / 10)
        try:
            await check_capabilities(
                bus,
                secret_missing=webhook_secret.missing,
                signatures_required=signatures_required,
            )
        except HogsendError as error:
            # The last known states may be outdated.
            _update(dict.fromkeys(ORDER, "unknown"), _UNKNOWN)
            FAILURES.labels("capabilities", error.code).inc()
            log.warning("capabilities are not known", reason=str(error))
        await asyncio.sleep(CAPABILITIES_SECONDS * 9 / 10)


async def check_capabilities(
    bus: Connection, *, secret_missing: bool, signatures_required: bool
) -> None:
    """Update the gauges of capabilities and of the destination in PostHog.

    A service that does not reply makes its part `unknown`. The arguments are those of
    `capabilities.query`.

    Raises:
        HogsendError: a service replies with an error.
    """
    reply, diagnosis = await query(
        bus, secret_missing=secret_missing, signatures_required=signatures_required
    )
    _update(
        {capability.name: capability.state for capability in reply.capabilities},
        _UNKNOWN if diagnosis is None else diagnosis.destination,
    )


def _update(capabilities: Mapping[str, str], destination: DestinationFinding) -> None:
    for name, actual in capabilities.items():
        for state in CAPABILITY_STATES:
            CAPABILITY.labels(name, state).set(int(actual == state))
    for state in DESTINATION_STATES:
        DESTINATION.labels(state).set(int(destination.state == state))
    # Unknown keeps the last value, so that an alert is not resolved by a failed check.
    if destination.stopped is not None:
        STOPPED.set(int(destination.stopped))


async def keep_measuring_disk(directory: Path) -> Never:
    """Measure the spool's disk every `DISK_SECONDS`. Repeated errors are logged at debug only."""
    is_logged = False
    while True:
        try:
            measure_disk(directory)
            is_logged = False
        except OSError as error:
            FAILURES.labels("disk", type(error).__name__).inc()
            log_at, is_logged = log.debug if is_logged else log.warning, True
            log_at("the disk of the spool cannot be measured", reason=str(error))
        await asyncio.sleep(DISK_SECONDS)


def measure_disk(directory: Path) -> None:
    """Measure the disk that contains a directory, which may not exist yet.

    Raises:
        OSError: it cannot be measured.
    """
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    usage = shutil.disk_usage(existing)
    DISK.set(usage.total)
    DISK_FREE.set(usage.free)
