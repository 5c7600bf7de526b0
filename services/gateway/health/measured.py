"""Gauges that need a question: capabilities, our destination in PostHog, and the disk."""

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
from services.gateway.capabilities import ORDER, known
from services.gateway.webhooks.secret import WebhookSecret

log = structlog.get_logger(__name__)

DISK_SECONDS = 15.0
ASK_SECONDS = 300.0
"""How often the services are asked: each time PostHog gets some requests, which it counts."""

CAPABILITY = Gauge(
    "hogsend_capability_state",
    "1 for the state of a capability: `on`, `off`, `unknown`; asked every five minutes",
    ["capability", "state"],
)
DESTINATION = Gauge(
    "hogsend_posthog_destination_state",
    "1 for the state of our destination in PostHog, such as `live`, `degraded`, "
    "`disabled_by_posthog`, `missing`, `unknown`; asked every five minutes",
    ["state"],
)
STOPPED = Gauge(
    "hogsend_posthog_destination_stopped",
    "1 while a destination that was set up delivers no more, as it was changed or deleted in "
    "PostHog, or the secret or address was here; asked every five minutes",
)
DISK = Gauge("hogsend_spool_disk_bytes", "Size of the file system that the spool is on")
DISK_FREE = Gauge("hogsend_spool_disk_free_bytes", "What is free on it for the gateway")

CAPABILITY_STATES: tuple[str, ...] = get_args(CapabilityState)
DESTINATION_STATES: tuple[str, ...] = get_args(get_type_hints(DestinationFinding)["state"])
_UNKNOWN = DestinationFinding(state="unknown")


async def keep_asking(
    bus: Connection, webhook_secret: WebhookSecret, *, signatures_required: bool
) -> Never:
    """Ask again and again."""
    while True:
        await asyncio.sleep(ASK_SECONDS / 10)
        try:
            await ask(
                bus,
                secret_missing=webhook_secret.missing,
                signatures_required=signatures_required,
            )
        except HogsendError as error:
            # What was so before may not be any more.
            _show(dict.fromkeys(ORDER, "unknown"), _UNKNOWN)
            FAILURES.labels("capabilities", error.code).inc()
            log.warning("capabilities are not known", reason=str(error))
        await asyncio.sleep(ASK_SECONDS * 9 / 10)


async def ask(bus: Connection, *, secret_missing: bool, signatures_required: bool) -> None:
    """Ask which capabilities work, and how our destination is; no answer makes both `unknown`.

    The arguments are those of `capabilities.known`.

    Raises:
        HogsendError: a service answers with an error.
    """
    found, diagnosis = await known(
        bus, secret_missing=secret_missing, signatures_required=signatures_required
    )
    _show(
        {one.name: one.state for one in found.capabilities},
        _UNKNOWN if diagnosis is None else diagnosis.destination,
    )


def _show(capabilities: Mapping[str, str], destination: DestinationFinding) -> None:
    for name, actual in capabilities.items():
        for state in CAPABILITY_STATES:
            CAPABILITY.labels(name, state).set(int(actual == state))
    for state in DESTINATION_STATES:
        DESTINATION.labels(state).set(int(destination.state == state))
    # Where it is not known, the one that was known last: an alert goes on.
    if destination.stopped is not None:
        STOPPED.set(int(destination.stopped))


async def keep_measuring_disk(directory: Path) -> Never:
    """Measure the disk of the spool again and again."""
    is_told = False
    while True:
        try:
            measure_disk(directory)
            is_told = False
        except OSError as error:
            FAILURES.labels("disk", type(error).__name__).inc()
            say, is_told = log.debug if is_told else log.warning, True
            say("the disk of the spool is not measured", reason=str(error))
        await asyncio.sleep(DISK_SECONDS)


def measure_disk(directory: Path) -> None:
    """Measure the disk that a directory is, or will be, on.

    Raises:
        OSError: it cannot be measured.
    """
    there = next(one for one in (directory, *directory.parents) if one.exists())
    usage = shutil.disk_usage(there)
    DISK.set(usage.total)
    DISK_FREE.set(usage.free)
