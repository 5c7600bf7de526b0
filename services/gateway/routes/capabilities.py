"""`GET /v1/admin/capabilities`: the spec's degradation table, with its current values."""

from __future__ import annotations

import asyncio

from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.base import Empty
from hogsend.contract.capabilities import (
    ANALYTICS_CAPABILITIES,
    Capabilities,
    Capability,
    CapabilityName,
)
from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, Diagnosis
from hogsend.contract.registry import Endpoint, Reply
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_or_reader
from services.gateway.error_responses import documented_errors

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


@get(
    "/v1/admin/capabilities",
    guards=[admin_or_reader],
    tags=["Admin"],
    operation_id="listCapabilities",
    summary="What works, what does not, and what to set",
    security=ADMIN_SECURITY,
    responses=documented_errors(400, 401, 403, 429),
)
async def list_capabilities(bus: NamedDependency[Connection]) -> Capabilities:
    """List every capability; those of a service that does not answer are `unknown`."""
    analytics, diagnosis = await asyncio.gather(
        _ask(bus, ANALYTICS_CAPABILITIES),
        _ask(bus, PROVISIONER_DIAGNOSE, DIAGNOSIS_SECONDS),
    )
    known = {one.name: one for one in (analytics.capabilities if analytics else [])}
    if analytics is None:
        known |= {name: _unknown(name, "analytics") for name in OF_ANALYTICS}
    if diagnosis is None:
        for name in ORDER:
            known.setdefault(name, _unknown(name, "provisioner"))
    else:
        known["eventsIn"] = _events_in(diagnosis)
        known["loopProvisioning"] = _provisioning(diagnosis)
    return Capabilities([known[name] for name in ORDER])


async def _ask(
    bus: Connection, endpoint: Endpoint[Empty, Reply], deadline: float | None = None
) -> Reply | None:
    try:
        return await bus.request(endpoint, Empty(), deadline=deadline)
    except Unavailable:
        # The response itself reports it.
        return None


def _unknown(name: CapabilityName, service: str) -> Capability:
    return Capability(
        name=name,
        state="unknown",
        reason=f"The {service} service did not answer.",
        remediation=f"Look at `hogsend status` and at the {service} service's log.",
    )


def _events_in(diagnosis: Diagnosis) -> Capability:
    name: CapabilityName = "eventsIn"
    secret, destination = diagnosis.webhook_secret, diagnosis.destination
    for finding, fine in ((secret, "present"), (destination, "live")):
        if finding.state == "unknown":
            return Capability(
                name=name,
                state="unknown",
                reason=finding.detail or "This is not known.",
                remediation=finding.remediation,
            )
        if finding.state != fine:
            return Capability(
                name=name,
                state="off",
                reason=finding.detail or "PostHog does not deliver here.",
                remediation=finding.remediation,
            )
    return Capability(name=name, state="on", reason="PostHog delivers here, signed.")


def _provisioning(diagnosis: Diagnosis) -> Capability:
    name: CapabilityName = "loopProvisioning"
    finding = diagnosis.provisioning
    if finding.state == "possible":
        return Capability(name=name, state="on", reason="Nothing stands in the way.")
    reason = f"{finding.code}: {finding.detail}" if finding.code and finding.detail else None
    return Capability(
        name=name,
        state="off" if finding.state == "refused" else "unknown",
        reason=reason or finding.code or finding.detail or "This is not known.",
        remediation=finding.remediation,
    )
