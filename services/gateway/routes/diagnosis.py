"""`GET /v1/admin/analytics/diagnosis`: what works between PostHog and this instance."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.base import Empty
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
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import admin_errors
from services.gateway.timestamps import format_milliseconds


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


@get(
    "/v1/admin/analytics/diagnosis",
    guards=[admin_only],
    operation_id="getDiagnosis",
    summary="Diagnose the integration with PostHog",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(),
)
async def get_diagnosis(bus: NamedDependency[Connection]) -> DiagnosisBody:
    """Check credential, person reads, webhook secret, destination, scopes and public URL."""
    return _body(await bus.request(PROVISIONER_DIAGNOSE, Empty()))


def _body(found: Diagnosis) -> DiagnosisBody:
    return DiagnosisBody(
        private_host=found.private_host,
        credential=_credential(found.credential),
        person_reads=found.person_reads,
        webhook_secret=found.webhook_secret,
        destination=found.destination,
        scope_gap=found.scope_gap,
        public_url=found.public_url,
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
