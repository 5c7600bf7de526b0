"""The spec's degradation table with its current values, put together of what the services know."""

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
from services.gateway import intake, provisioner

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


async def known(
    bus: Connection, *, secret_missing: bool, signatures_required: bool
) -> tuple[Capabilities, Diagnosis | None]:
    """Every capability, and the diagnosis they come from if the provisioner answered.

    Those of a service that does not answer are `unknown`.

    Args:
        bus: to ask the services.
        secret_missing: whether this gateway is closed because there is no webhook secret.
        signatures_required: whether it refuses webhooks that are not signed.
    """
    analytics, diagnosis = await asyncio.gather(
        _answer(bus.request(ANALYTICS_CAPABILITIES, Empty())),
        _answer(provisioner.ask(bus, PROVISIONER_DIAGNOSE, Empty(), deadline=DIAGNOSIS_SECONDS)),
    )
    rows = (
        [_unknown(name, "analytics", analytics) for name in OF_ANALYTICS]
        if isinstance(analytics, HogsendError)
        else analytics.capabilities
    )
    found = {one.name: one for one in rows}
    if isinstance(diagnosis, HogsendError):
        for name in ORDER:
            found.setdefault(name, _unknown(name, "provisioner", diagnosis))
    else:
        found["eventsIn"] = _events_in(
            intake.webhook_secret(diagnosis.webhook_secret, missing=secret_missing),
            diagnosis.destination,
            intake.signatures(diagnosis, required=signatures_required),
        )
        found["loopProvisioning"] = _provisioning(diagnosis)
    known = Capabilities([found[name] for name in ORDER])
    return known, None if isinstance(diagnosis, HogsendError) else diagnosis


async def person_reads(bus: Connection) -> Capability:
    """Whether the service that reads persons can; `unknown` when it does not answer."""
    name: CapabilityName = "personReads"
    answer = await _answer(bus.request(ANALYTICS_CAPABILITIES, Empty()))
    if isinstance(answer, HogsendError):
        return _unknown(name, "analytics", answer)
    (found,) = (one for one in answer.capabilities if one.name == name)
    return found


async def _answer(asking: Awaitable[Reply]) -> Reply | Unavailable | Forbidden:
    """What is answered, or why there is no answer."""
    try:
        return await asking
    except (Unavailable, Forbidden) as error:
        # The response itself reports it, too.
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
    secret: SecretFinding, destination: DestinationFinding, signatures: intake.SignaturesFinding
) -> Capability:
    name: CapabilityName = "eventsIn"
    # It was changed in PostHog, and delivers all the same.
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
        return Capability(name=name, state="on", reason="Nothing stands in the way.")
    return Capability(
        name=name,
        state="off" if finding.state == "refused" else "unknown",
        reason=finding.detail or finding.code or "This is not known.",
        remediation=finding.remediation,
    )
