"""`/v1/admin/analytics`: make PostHog deliver here, and say what works (contract 1.2)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from hogsend.contract.base import Empty
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    PROVISIONER_PROVISION,
    CredentialFinding,
    Destination,
    DestinationFinding,
    Diagnosis,
    Finding,
    Provisioned,
    ProvisionLoop,
    ProvisionReply,
    PublicUrlFinding,
    ReadsFinding,
    Refusal,
    SecretFinding,
)
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_only
from services.gateway.error_responses import RefusalBody, documented
from services.gateway.response_headers import correlation
from services.gateway.webhooks.secret import WebhookSecret

PROBE_SECONDS = 2.0
"""How long the provisioner gets to say that it is there."""
WATCH_SECONDS = 5.0
"""How often it is asked that while a run goes on: a run may take a minute, a crash must not."""

STATUSES = {"precondition": 409, "posthog": 502}


class ProvisionedBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The destination in PostHog, as it is now."""

    provisioned: Literal[True] = True
    created: bool
    action: Literal["created", "updated", "unchanged"]
    hog_function_id: str
    webhook_url: str
    dashboard_url: str
    enabled: bool
    other_instances: list[Destination] | msgspec.UnsetType = msgspec.UNSET
    """Destinations of other live instances in the same project: left alone."""


class CredentialFindingBody(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant; times in UTC with milliseconds."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    scopes: list[str]
    expires_at: str | None
    refresh_failing: bool


class DiagnosisBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about the integration that an operator may have to act on."""

    private_host: str | None
    credential: CredentialFindingBody
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    public_url: PublicUrlFinding


class ProvisioningController(Controller):
    """The destination in PostHog that delivers here."""

    path = "/v1/admin/analytics"
    guards = [admin_only]  # noqa: RUF012 - litestar reads class attributes
    tags = ["Admin"]  # noqa: RUF012
    security = [{"adminKey": []}]  # noqa: RUF012

    @post(
        "/provision-loop",
        status_code=200,
        operation_id="provisionLoop",
        summary="Make PostHog deliver here",
        responses={
            200: ResponseSpec(ProvisionedBody, description="PostHog delivers here."),
            409: ResponseSpec(RefusalBody, description="Something is missing on this side."),
            **documented(400, 401, 403, 429, 502, 503),
        },
    )
    async def provision_loop(
        self,
        bus: NamedDependency[Connection],
        webhook_secret: NamedDependency[WebhookSecret],
        request: Request[Any, Any, Any],
        placeholder: Annotated[
            Literal["true", "false"],
            QueryParameter(description="Only make a disabled destination to be filled in later."),
        ] = "false",
    ) -> Response[ProvisionedBody | RefusalBody]:
        """Create or repair the webhook destination; doing it twice changes nothing."""
        headers = correlation(request)
        reply = await _run(bus, ProvisionLoop(placeholder=placeholder == "true"), headers)
        if reply.provisioned is None:
            return _refused(reply.refusal)
        # A secret minted just now must be enforced by the time anybody knows of it.
        await webhook_secret.refresh()
        return Response(_provisioned(reply.provisioned), media_type=MediaType.JSON)

    @get(
        "/diagnosis",
        operation_id="getDiagnosis",
        summary="What works between PostHog and this instance",
        responses=documented(401, 403, 429, 503),
    )
    async def diagnosis(
        self, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> DiagnosisBody:
        """Look at credential, person reads, webhook secret, destination, scopes and public URL."""
        found = await bus.request(PROVISIONER_DIAGNOSE, Empty(), headers=correlation(request))
        return _diagnosis(found)


async def _run(bus: Connection, wanted: ProvisionLoop, headers: dict[str, str]) -> ProvisionReply:
    await _probe(bus, headers)
    run = asyncio.create_task(bus.request(PROVISIONER_PROVISION, wanted, headers=headers))
    try:
        while not (await asyncio.wait({run}, timeout=WATCH_SECONDS))[0]:
            await _probe(bus, headers)
        return run.result()
    finally:
        run.cancel()


async def _probe(bus: Connection, headers: dict[str, str]) -> None:
    await bus.request(PROVISIONER_HEALTH, Empty(), deadline=PROBE_SECONDS, headers=headers)


def _provisioned(done: Provisioned) -> ProvisionedBody:
    return ProvisionedBody(
        created=done.action == "created",
        action=done.action,
        hog_function_id=done.hog_function_id,
        webhook_url=done.webhook_url,
        dashboard_url=done.dashboard_url,
        enabled=done.enabled,
        other_instances=done.other_instances or msgspec.UNSET,
    )


def _refused(refusal: Refusal | None) -> Response[ProvisionedBody | RefusalBody]:
    if refusal is None:
        raise ValueError("the provisioner answered nothing")
    body = RefusalBody(
        error=refusal.code,
        detail=msgspec.UNSET if refusal.detail is None else refusal.detail,
        remediation=msgspec.UNSET if refusal.remediation is None else refusal.remediation,
    )
    return Response(body, status_code=STATUSES[refusal.reason], media_type=MediaType.JSON)


def _diagnosis(found: Diagnosis) -> DiagnosisBody:
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
        expires_at=_milliseconds(found.expires_at),
        refresh_failing=found.refresh_failing,
        detail=found.detail,
        remediation=found.remediation,
    )


def _milliseconds(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
