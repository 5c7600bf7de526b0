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
    Unsigned,
)
from hogsend.transport.connection import Connection
from services.gateway import capabilities, provisioner
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


class SignaturesFinding(Finding, frozen=True, kw_only=True):
    """Whether deliveries are signed, as far as they have to be."""

    state: Literal["signed", "unsigned", "refused", "unknown"]
    """`refused`: they are not signed, and this gateway accepts signed ones only."""
    required: bool
    """`WEBHOOK_SIGNATURES`."""


class DiagnosisBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about the integration that may need an operator."""

    private_host: str | None
    credential: CredentialFindingBody
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    public_url: PublicUrlFinding
    signatures: SignaturesFinding


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
        webhook_secret=_webhook_secret(found.webhook_secret, missing=missing),
        destination=found.destination,
        scope_gap=found.scope_gap,
        public_url=found.public_url,
        signatures=_signatures(found.destination, required=required),
    )


def _webhook_secret(stored: SecretFinding, *, missing: bool) -> SecretFinding:
    """Where there was a secret, or has to be one, the gateway is closed without it."""
    if stored.state != "absent" or not missing:
        return stored
    return msgspec.structs.replace(
        stored,
        detail="There is no webhook secret, so every webhook is answered 503.",
        remediation="Run `hogsend connect posthog`, which mints one, or set "
        "POSTHOG_WEBHOOK_SECRET; WEBHOOK_OPEN=true accepts webhooks from everybody.",
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


_UNSIGNED: dict[Unsigned, tuple[str, str]] = {
    "unsupported": (
        "The webhook template of this PostHog has no signing secret.",
        "Upgrade PostHog, if you want deliveries to be signed.",
    ),
    "custom_program": (
        "The destination's program was changed in PostHog, and does not sign.",
        "Reset the destination to its template in PostHog, if you want deliveries to be signed.",
    ),
    "no_key": (
        "There is no signing key.",
        "Set POSTHOG_SIGNING_SECRET, or run `hogsend connect posthog --provision-only` to mint it.",
    ),
    "not_provisioned": (
        "The destination does not sign with the present key.",
        "Run `hogsend connect posthog --provision-only`.",
    ),
}
_NOT_REQUIRED = "Or set WEBHOOK_SIGNATURES to `verify`, and webhooks are accepted without."


def _signatures(destination: DestinationFinding, *, required: bool) -> SignaturesFinding:
    if destination.signed is None:
        return SignaturesFinding(state="unknown", required=required)
    if destination.signed:
        return SignaturesFinding(state="signed", required=required)
    detail, remedy = _UNSIGNED[destination.unsigned_because or "unsupported"]
    if not required:
        return SignaturesFinding(
            state="unsigned", required=False, detail=detail, remediation=remedy
        )
    return SignaturesFinding(
        state="refused",
        required=True,
        detail=f"{detail} So every delivery is refused.",
        remediation=f"{remedy} {_NOT_REQUIRED}",
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
