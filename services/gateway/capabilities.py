"""The capabilities of the spec's degradation table, with their current state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from hogsend.contract.base import Empty
from hogsend.contract.capabilities import (
    ANALYTICS_CAPABILITIES,
    Capabilities,
    Capability,
    CapabilityName,
)
from hogsend.contract.errors import Forbidden, HogsendError, Unavailable, sentence
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    DestinationFinding,
    Diagnosis,
    SecretFinding,
)
from hogsend.contract.registry import Reply
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.gateway.webhook_findings import (
    SignaturesFinding,
    secret_finding,
    signatures_finding,
)

log = structlog.get_logger(__name__)

DIAGNOSIS_SECONDS = 15.0
OF_ANALYTICS: tuple[CapabilityName, ...] = (
    "eventCapture",
    "personWrites",
    "personReads",
    "engagementOut",
)
ORDER: tuple[CapabilityName, ...] = (
    "eventCapture",
    "personWrites",
    "personReads",
    "eventsIn",
    "engagementOut",
    "loopProvisioning",
)


async def query(
    bus: Connection, *, secret_missing: bool, signatures_required: bool
) -> tuple[Capabilities, Diagnosis | None]:
    """Query every capability from the services that provide it.

    Capabilities of a service that does not reply are `unknown`.

    Args:
        bus: connection to the services.
        secret_missing: whether this gateway refuses webhooks because it has no secret.
        signatures_required: whether this gateway refuses webhooks that are not signed.

    Returns:
        The capabilities, and the provisioner's diagnosis if it replied.
    """
    analytics, diagnosis = await asyncio.gather(
        _reply_or_error(bus.request(ANALYTICS_CAPABILITIES, Empty())),
        _reply_or_error(bus.request(PROVISIONER_DIAGNOSE, Empty(), deadline=DIAGNOSIS_SECONDS)),
    )
    rows = (
        [_unknown(name, "analytics", analytics) for name in OF_ANALYTICS]
        if isinstance(analytics, HogsendError)
        else analytics.capabilities
    )
    by_name = {capability.name: capability for capability in rows}
    if isinstance(diagnosis, HogsendError):
        for name in ORDER:
            by_name.setdefault(name, _unknown(name, "provisioner", diagnosis))
    else:
        by_name["eventsIn"] = _events_in(
            secret_finding(diagnosis.webhook_secret, missing=secret_missing),
            diagnosis.destination,
            signatures_finding(diagnosis, required=signatures_required),
        )
        by_name["loopProvisioning"] = _provisioning(diagnosis)
    capabilities = Capabilities([by_name[name] for name in ORDER])
    return capabilities, None if isinstance(diagnosis, HogsendError) else diagnosis


async def person_reads(bus: Connection) -> Capability:
    """Query whether analytics can read persons; `unknown` when it does not reply."""
    name: CapabilityName = "personReads"
    reply = await _reply_or_error(bus.request(ANALYTICS_CAPABILITIES, Empty()))
    if isinstance(reply, HogsendError):
        return _unknown(name, "analytics", reply)
    (capability,) = (row for row in reply.capabilities if row.name == name)
    return capability


async def _reply_or_error(request: Awaitable[Reply]) -> Reply | Unavailable | Forbidden:
    """Return the reply, or the error that explains why there is no reply."""
    try:
        return await request
    except (Unavailable, Forbidden) as error:
        # Logged at debug only, because the HTTP response reports it as well.
        FAILURES.labels("capabilities", error.code).inc()
        log.debug("capabilities are not known", reason=str(error))
        return error


def _unknown(name: CapabilityName, service: str, error: HogsendError) -> Capability:
    remediation = f"Look at `hogsend status` and at the {service} service's log."
    if isinstance(error, Forbidden):
        remediation = f"{sentence(error.fix)} {remediation}"
    return Capability(
        name=name, state="unknown", reason=sentence(str(error)), remediation=remediation
    )


def _events_in(
    secret: SecretFinding,
    destination: DestinationFinding,
    signatures: SignaturesFinding,
) -> Capability:
    name: CapabilityName = "eventsIn"
    # Changed in PostHog, but still delivering.
    drifted = destination.state == "drifted" and not destination.stopped
    for finding, is_fine in (
        (secret, secret.state == "present"),
        (destination, destination.state == "live" or drifted),
    ):
        if finding.state == "unknown":
            return Capability(
                name=name,
                state="unknown",
                reason=finding.detail or "This is not known.",
                remediation=finding.remediation,
            )
        if not is_fine:
            return Capability(
                name=name,
                state="off",
                reason=finding.detail or "PostHog does not deliver here.",
                remediation=finding.remediation,
            )
    if signatures.state == "refused":
        return Capability(
            name=name,
            state="off",
            reason=signatures.detail or "",
            remediation=signatures.remediation,
        )
    signed = {"signed": ", signed", "unsigned": ", not signed"}.get(signatures.state, "")
    here = f"PostHog delivers here{signed}."
    if drifted:
        here = f"{here} {destination.detail or ''}".strip()
    return Capability(
        name=name, state="on", reason=here, remediation=destination.remediation if drifted else None
    )


def _provisioning(diagnosis: Diagnosis) -> Capability:
    name: CapabilityName = "loopProvisioning"
    finding = diagnosis.provisioning
    if finding.state == "possible":
        return Capability(name=name, state="on", reason="Provisioning is possible.")
    return Capability(
        name=name,
        state="off" if finding.state == "refused" else "unknown",
        reason=finding.detail or finding.code or "This is not known.",
        remediation=finding.remediation,
    )
