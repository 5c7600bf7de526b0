"""The preconditions of the first request to PostHog, and their order (contract 1.2)."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import TokenReply
from hogsend.contract.provisioning import Refusal
from services.provisioner.destination import preconditions
from services.provisioner.destination.errors import ProvisioningError

HOST = "https://posthog.example"
PUBLIC = "https://t.example.com"
LOOPBACK = "http://localhost:3002"
BEARER = TokenReply(source="oauth", version=1, token="pha_a")
NO_BEARER = TokenReply(source="none", version=1)


def code(
    bearer: TokenReply = BEARER,
    host: str | None = HOST,
    url: str = PUBLIC,
    *,
    placeholder: bool = False,
) -> str | None:
    try:
        assert preconditions.require(bearer, host, url, placeholder=placeholder) == host
    except ProvisioningError as error:
        return error.refusal.code
    return None


def test_a_request_without_obstacles_passes_the_preconditions() -> None:
    assert code() is None


def test_the_first_failed_precondition_is_reported() -> None:
    assert code(NO_BEARER, None, LOOPBACK) == "no_posthog_credential"
    assert code(BEARER, None, LOOPBACK) == "posthog_not_configured"
    assert code(BEARER, HOST, LOOPBACK) == "api_public_url_unreachable"


def test_an_empty_token_is_no_credential() -> None:
    assert code(TokenReply(source="oauth", version=1, token="")) == "no_posthog_credential"


def test_a_placeholder_needs_no_public_url() -> None:
    assert code(url=LOOPBACK, placeholder=True) is None
    assert code(NO_BEARER, placeholder=True) == "no_posthog_credential"
    assert code(host=None, placeholder=True) == "posthog_not_configured"


@pytest.mark.parametrize(
    ("bearer", "host", "code"),
    [(NO_BEARER, HOST, "no_posthog_credential"), (BEARER, None, "posthog_not_configured")],
)
def test_cases_36_and_37_carry_a_code_alone(
    bearer: TokenReply, host: str | None, code: str
) -> None:
    with pytest.raises(ProvisioningError) as raised:
        preconditions.require(bearer, host, PUBLIC, placeholder=False)
    refusal = raised.value.refusal
    assert refusal == Refusal(reason="precondition", code=code)


def test_case_38_a_loopback_public_url_is_named_with_the_fix() -> None:
    with pytest.raises(ProvisioningError) as raised:
        preconditions.require(BEARER, HOST, LOOPBACK, placeholder=False)
    refusal = raised.value.refusal
    assert LOOPBACK in (refusal.detail or "")
    assert "--provision-only" in (refusal.remediation or "")
    assert "--url" in (refusal.remediation or "")
