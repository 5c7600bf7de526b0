"""`GET /v1/admin/analytics/diagnosis`: what works between PostHog and this instance."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.base import Empty
from hogsend.contract.capabilities import Capability
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    CredentialFinding,
    DestinationFinding,
    Diagnosis,
    Finding,
    PublicUrlFinding,
    ReadsFinding,
    SecretFinding,
)
from hogsend.transport.connection import Connection
from services.gateway import capabilities, webhook_findings
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.timestamps import format_milliseconds
from services.gateway.webhooks.secret import WebhookSecret


class CredentialFindingBody(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant. Times are in UTC with milliseconds."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    """`unreadable`: it cannot be decrypted. `needs_reconnect`: PostHog refused the refresh token.
    `unknown`: the service `credentials` does not reply."""
    scopes: list[str]
    """Granted OAuth scopes, for example `person:read`."""
    expires_at: str | None
    """When the access token expires; null without a grant."""
    refresh_failing: bool
    """Whether the last refresh of the access token failed."""


class DiagnosisBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of everything in the integration with PostHog that may need an operator."""

    private_host: str | None
    """URL of PostHog's app and API; null if it is not known."""
    credential: CredentialFindingBody
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    """OAuth scopes that Hogsend uses and the stored grant lacks. Empty without a grant."""
    public_url: PublicUrlFinding
    signatures: webhook_findings.SignaturesFinding


@get(
    "/v1/admin/analytics/diagnosis",
    guards=[admin_or_reader],
    operation_id="getDiagnosis",
    summary="Diagnose the integration with PostHog",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=admin_errors(),
)
async def get_diagnosis(
    bus: NamedDependency[Connection],
    signatures_required: NamedDependency[bool],
    webhook_secret: NamedDependency[WebhookSecret],
) -> DiagnosisBody:
    """Check credential, person reads, webhook secret, destination, scopes, URL and signatures."""
    diagnosis, reads = await asyncio.gather(
        bus.request(PROVISIONER_DIAGNOSE, Empty()), capabilities.person_reads(bus)
    )
    return _body(diagnosis, reads, required=signatures_required, missing=webhook_secret.missing)


def _body(
    diagnosis: Diagnosis, reads: Capability, *, required: bool, missing: bool
) -> DiagnosisBody:
    return DiagnosisBody(
        private_host=diagnosis.private_host,
        credential=_credential(diagnosis.credential),
        person_reads=_person_reads(diagnosis.person_reads, reads),
        webhook_secret=webhook_findings.secret_finding(diagnosis.webhook_secret, missing=missing),
        destination=diagnosis.destination,
        scope_gap=diagnosis.scope_gap,
        public_url=diagnosis.public_url,
        signatures=webhook_findings.signatures_finding(diagnosis, required=required),
    )


def _person_reads(allowed: ReadsFinding, analytics: Capability) -> ReadsFinding:
    """Combine whether PostHog allows person reads with whether analytics can make them."""
    if allowed.state != "working" or analytics.state == "on":
        return allowed
    return ReadsFinding(
        state="failing" if analytics.state == "off" else "unknown",
        through=allowed.through,
        detail=f"PostHog allows person reads. {analytics.reason}",
        remediation="Look at `hogsend status` and at the analytics service's log.",
    )


def _credential(finding: CredentialFinding) -> CredentialFindingBody:
    return CredentialFindingBody(
        state=finding.state,
        scopes=finding.scopes,
        expires_at=format_milliseconds(finding.expires_at) if finding.expires_at else None,
        refresh_failing=finding.refresh_failing,
        detail=finding.detail,
        remediation=finding.remediation,
    )
