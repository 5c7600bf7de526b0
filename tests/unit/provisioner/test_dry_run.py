"""Dry run: whether provisioning would be refused, with the remediation."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hogsend.contract.credentials import CredentialStatus, TokenReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import ProvisioningFinding
from services.provisioner.diagnosis.dry_run import dry_run
from tests.unit.provisioner.fakes import FakeCredentials, InMemoryProvisioner, compose

LOOPBACK = "http://localhost:3002"
NO_BEARER = TokenReply(source="none", version=1)
KEY = TokenReply(source="personal_key", version=1, token="phx_key")


async def outcome(
    provisioner: InMemoryProvisioner, bearer: TokenReply | None = None
) -> ProvisioningFinding:
    credentials = provisioner.credentials
    return await dry_run(
        provisioner.instance,
        bearer or credentials.token,
        credentials.grant,
        provisioner.secrets,
    )


async def test_a_dry_run_of_possible_provisioning_changes_nothing() -> None:
    provisioner = compose(secret=None)
    assert await outcome(provisioner) == ProvisioningFinding(state="possible")
    assert provisioner.credentials.stored == []
    assert provisioner.posthog.requests == []


async def test_the_first_refusal_in_the_order_of_a_run_is_reported() -> None:
    blocked: dict[str, Any] = {"private_host": None, "public_url": LOOPBACK, "minting": False}
    codes = [
        (await outcome(compose(secret=None, **blocked), NO_BEARER)).code,
        (await outcome(compose(secret=None, **blocked))).code,
        (await outcome(compose(secret=None, public_url=LOOPBACK, minting=False))).code,
        (await outcome(compose(secret=None, minting=False))).code,
    ]
    assert codes == [
        "no_posthog_credential",
        "posthog_not_configured",
        "api_public_url_unreachable",
        "webhook_secret_missing",
    ]


@pytest.mark.parametrize(
    ("provisioner", "bearer", "remediation"),
    [
        (compose(), NO_BEARER, "hogsend connect posthog"),
        (compose(private_host=None), None, "POSTHOG_HOST"),
        (compose(public_url=LOOPBACK), None, "--provision-only"),
        (compose(secret=None, minting=False), None, "POSTHOG_WEBHOOK_SECRET"),
    ],
)
async def test_every_refusal_has_a_detail_and_a_remediation(
    provisioner: InMemoryProvisioner, bearer: TokenReply | None, remediation: str
) -> None:
    finding = await outcome(provisioner, bearer)
    assert finding.state == "refused"
    assert " " in (finding.detail or "")
    assert remediation in (finding.remediation or "")


@pytest.mark.parametrize(
    ("provisioner", "bearer", "is_named"),
    [
        (compose(), NO_BEARER, False),
        (compose(), replace(NO_BEARER, not_refreshed="HTTP 503"), True),
        (compose(public_url=LOOPBACK), replace(KEY, not_refreshed="HTTP 503"), False),
    ],
)
async def test_a_grant_that_waits_for_its_refresh_is_named_only_where_it_is_the_reason(
    provisioner: InMemoryProvisioner, bearer: TokenReply, is_named: bool
) -> None:
    finding = await outcome(provisioner, bearer)
    assert finding.state == "refused"
    assert ("not refreshed" in (finding.detail or "")) is is_named
    assert ("HTTP 503" in (finding.detail or "")) is is_named


async def test_a_grant_without_the_write_scope_would_be_refused() -> None:
    provisioner = compose()
    provisioner.credentials.grant = CredentialStatus(
        version=1, oauth="present", scopes=["hog_function:read"], webhook_secret="absent"
    )
    finding = await outcome(provisioner)
    assert (finding.state, finding.code) == ("refused", "missing-scope")
    assert "hog_function:write" in (finding.detail or "")
    assert "hog_function:write" in (finding.remediation or "")


async def test_the_scopes_of_a_personal_key_are_not_checked() -> None:
    provisioner = compose()
    provisioner.credentials.grant = CredentialStatus(
        version=1, oauth="absent", scopes=[], webhook_secret="absent", personal_key=True
    )
    assert (await outcome(provisioner, KEY)).state == "possible"


@pytest.mark.parametrize("available", ["bearer", "status"])
async def test_a_dry_run_without_the_credentials_service_is_unknown(available: str) -> None:
    credentials = FakeCredentials()
    provisioner = compose(credentials=credentials)
    finding = await dry_run(
        provisioner.instance,
        credentials.token if available == "bearer" else Unavailable("down"),
        credentials.grant if available == "status" else Unavailable("down"),
        provisioner.secrets,
    )
    assert (finding.state, finding.code) == ("unknown", None)
    assert "hogsend status" in (finding.remediation or "")


async def test_a_dry_run_is_unknown_when_the_secret_cannot_be_checked() -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.failures["derived"] = Unavailable("down")
    finding = await outcome(provisioner)
    assert finding.state == "unknown"
    assert "hogsend status" in (finding.remediation or "")
