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
from services.gateway import capabilities, intake, provisioner
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.timestamps import format_milliseconds
from services.gateway.webhooks.secret import WebhookSecret


class CredentialFindingBody(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant; times in UTC with milliseconds."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    scopes: list[str]
    expires_at: str | None
    refresh_failing: bool


class DiagnosisBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about the integration that may need an operator."""

    private_host: str | None
    credential: CredentialFindingBody
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    public_url: PublicUrlFinding
    signatures: intake.SignaturesFinding


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
    found, reads = await asyncio.gather(
        provisioner.ask(bus, PROVISIONER_DIAGNOSE, Empty()), capabilities.person_reads(bus)
    )
    return _body(found, reads, required=signatures_required, missing=webhook_secret.missing)


def _body(found: Diagnosis, reads: Capability, *, required: bool, missing: bool) -> DiagnosisBody:
    return DiagnosisBody(
        private_host=found.private_host,
        credential=_credential(found.credential),
        person_reads=_person_reads(found.person_reads, reads),
        webhook_secret=intake.webhook_secret(found.webhook_secret, missing=missing),
        destination=found.destination,
        scope_gap=found.scope_gap,
        public_url=found.public_url,
        signatures=intake.signatures(found, required=required),
    )


def _person_reads(allowed: ReadsFinding, here: Capability) -> ReadsFinding:
    """What PostHog allows is half of it: analytics has to be there to read."""
    if allowed.state != "working" or here.state == "on":
        return allowed
    return ReadsFinding(
        state="failing" if here.state == "off" else "unknown",
        through=allowed.through,
        detail=f"PostHog allows them. {here.reason}",
        remediation="Look at `hogsend status` and at the analytics service's log.",
    )


def _credential(found: CredentialFinding) -> CredentialFindingBody:
    return CredentialFindingBody(
        state=found.state,
        scopes=found.scopes,
        expires_at=format_milliseconds(found.expires_at) if found.expires_at else None,
        refresh_failing=found.refresh_failing,
        detail=found.detail,
        remediation=found.remediation,
    )
