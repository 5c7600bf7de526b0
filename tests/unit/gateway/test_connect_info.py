"""Acceptance cases 12.2: connect-info, from the settings and the stored credentials.

Cases 34 and 35, a generated secret and an unreadable row, are tested with the credentials service.
"""

from __future__ import annotations

from typing import Any

from hogsend.contract.credentials import CREDENTIALS_STATUS, CredentialStatus, SecretState
from tests.unit.gateway.fakes import FakeGateway, bearer, fake_gateway

URL = "/v1/admin/analytics/connect-info"
FIXTURE = {"posthog_api_key": "phc_test", "posthog_host": "https://eu.i.posthog.com"}
GRANTED = ["person:read", "person:write", "project:read", "hog_function:write"]


def status(oauth: SecretState, secret: SecretState, *scopes: str) -> CredentialStatus:
    return CredentialStatus(version=1, oauth=oauth, scopes=[*scopes], webhook_secret=secret)


async def connect_info(
    posthog: dict[str, Any], stored: CredentialStatus | None = None
) -> dict[str, Any]:
    async with fake_gateway(secret=None, posthog=posthog) as gateway:
        gateway.bus.reply_with(CREDENTIALS_STATUS, stored or status("absent", "absent"))
        response = await gateway.http.get(URL, headers=bearer())
    assert response.status_code == 200
    info: dict[str, Any] = response.json()
    return info


async def test_case_26_nothing_configured() -> None:
    assert await connect_info({}) == {
        "providerId": "posthog",
        "analyticsConfigured": False,
        "privateHost": None,
        "hostExplicit": False,
        "projectIdHint": None,
        "personalKeyConfigured": False,
        "webhookSecretConfigured": False,
        "apiPublicUrl": "https://t.example.com",
        "scopeGap": [],
    }


async def test_case_27_only_a_project_key() -> None:
    info = await connect_info({"posthog_api_key": "phc_x"})
    assert info["privateHost"] == "https://us.posthog.com"
    assert info["hostExplicit"] is False
    assert info["analyticsConfigured"] is True


async def test_case_28_only_a_host() -> None:
    info = await connect_info({"posthog_host": "https://eu.i.posthog.com"})
    assert info["privateHost"] == "https://eu.posthog.com"
    assert info["hostExplicit"] is True
    assert info["analyticsConfigured"] is False


async def test_case_29_a_private_host_wins() -> None:
    info = await connect_info({**FIXTURE, "posthog_private_host": "https://ph.internal.example/"})
    assert info["privateHost"] == "https://ph.internal.example"


async def test_case_30_secrets_show_only_as_set() -> None:
    secrets = {"posthog_webhook_secret": "whs_value", "posthog_personal_api_key": "phx_value"}
    info = await connect_info({**FIXTURE, **secrets, "posthog_project_id": "77"})
    assert info["webhookSecretConfigured"] is True
    assert info["personalKeyConfigured"] is True
    assert info["projectIdHint"] == "77"
    assert not any(secret in str(info) for secret in (*secrets.values(), "phc_test"))


async def test_case_31_the_fixture_environment() -> None:
    assert await connect_info({**FIXTURE, "posthog_project_id": "4242"}) == {
        "providerId": "posthog",
        "analyticsConfigured": True,
        "privateHost": "https://eu.posthog.com",
        "hostExplicit": True,
        "projectIdHint": "4242",
        "personalKeyConfigured": False,
        "webhookSecretConfigured": False,
        "apiPublicUrl": "https://t.example.com",
        "scopeGap": [],
    }


async def test_case_32_the_gap_of_a_stored_grant() -> None:
    gap = (await connect_info(FIXTURE, status("present", "absent", *GRANTED)))["scopeGap"]
    assert {"organization:read", "cohort:read"} <= set(gap)
    assert not {"person:read", "hog_function:write"} & set(gap)


async def test_case_33_write_implies_read() -> None:
    gap = (await connect_info(FIXTURE, status("present", "absent", "cohort:write")))["scopeGap"]
    assert "cohort:read" not in gap


async def test_a_generated_secret_counts_and_an_unreadable_one_does_not() -> None:
    minted = await connect_info(FIXTURE, status("absent", "present"))
    unreadable = await connect_info(FIXTURE, status("unreadable", "unreadable"))
    assert (minted["webhookSecretConfigured"], unreadable["webhookSecretConfigured"]) == (
        True,
        False,
    )
    assert unreadable["scopeGap"] == []


async def test_connect_info_is_a_typed_503_without_the_credentials_service(
    gateway: FakeGateway,
) -> None:
    response = await gateway.http.get(URL, headers=bearer())
    assert response.status_code == 503
    assert response.json() == {
        "error": "the credentials service is not running",
        "code": "unavailable",
    }
    assert response.headers["retry-after"] == "5"
