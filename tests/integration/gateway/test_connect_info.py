"""Acceptance cases 12.2: connect-info."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hogsend.contract.credentials import DerivedPayload
from tests.integration.gateway.test_credentials import PAYLOAD
from tests.integration.gateway.test_credentials import URL as CREDENTIAL
from tests.integration.harness import Credentials, admin, credentials_service, gateway
from tests.servers import Servers

URL = "/v1/admin/analytics/connect-info"
NOTHING = {"posthog_api_key": None, "posthog_host": None}


@pytest.fixture
async def service(
    servers: Servers, database_url: str, fresh_bus: None
) -> AsyncIterator[Credentials]:
    async with credentials_service(servers, database_url) as running:
        yield running


async def ask(
    servers: Servers,
    directory: Path,
    posthog: dict[str, Any] | None = None,
    stored: dict[str, Any] | None = None,
) -> dict[str, Any]:
    async with gateway(servers, directory, posthog=posthog) as front:
        if stored is not None:
            body = {"payload": {**PAYLOAD, **stored}}
            assert (await front.http.put(CREDENTIAL, json=body, headers=admin())).is_success
        answer = await front.http.get(URL, headers=admin())
    assert answer.status_code == 200
    info: dict[str, Any] = answer.json()
    return info


async def test_case_26_nothing_configured(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    assert await ask(servers, tmp_path, NOTHING) == {
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


async def test_case_27_only_a_project_key(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    info = await ask(servers, tmp_path, {**NOTHING, "posthog_api_key": "phc_x"})
    assert info["privateHost"] == "https://us.posthog.com"
    assert info["hostExplicit"] is False
    assert info["analyticsConfigured"] is True


async def test_case_28_only_a_host(servers: Servers, service: Credentials, tmp_path: Path) -> None:
    info = await ask(servers, tmp_path, {**NOTHING, "posthog_host": "https://eu.i.posthog.com"})
    assert info["privateHost"] == "https://eu.posthog.com"
    assert info["hostExplicit"] is True
    assert info["analyticsConfigured"] is False


async def test_case_29_a_private_host_wins(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    info = await ask(servers, tmp_path, {"posthog_private_host": "https://ph.internal.example/"})
    assert info["privateHost"] == "https://ph.internal.example"


async def test_case_30_secrets_show_only_as_set(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    secrets = {"posthog_webhook_secret": "whs_value", "posthog_personal_api_key": "phx_value"}
    info = await ask(servers, tmp_path, {**secrets, "posthog_project_id": "77"})
    assert info["webhookSecretConfigured"] is True
    assert info["personalKeyConfigured"] is True
    assert info["projectIdHint"] == "77"
    assert not any(secret in str(info) for secret in (*secrets.values(), "phc_test"))


async def test_case_31_the_fixture_environment(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    assert await ask(servers, tmp_path, {"posthog_project_id": "4242"}) == {
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


async def test_case_32_the_gap_of_a_stored_grant(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    gap = (await ask(servers, tmp_path, stored={}))["scopeGap"]
    assert {"organization:read", "cohort:read"} <= set(gap)
    assert not {"person:read", "hog_function:write"} & set(gap)


async def test_case_33_write_implies_read(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    info = await ask(servers, tmp_path, stored={"scopes": ["cohort:write"]})
    assert "cohort:read" not in info["scopeGap"]


async def test_case_34_a_minted_secret_counts(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    info = await ask(servers, tmp_path)
    assert info["webhookSecretConfigured"] is True
    assert "minted" not in str(info)


@pytest.mark.parametrize("kind", ["oauth", "derived"])
async def test_case_35_an_unreadable_row_leaves_the_gap_empty(
    servers: Servers, service: Credentials, tmp_path: Path, kind: str
) -> None:
    async with service.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO provider_credentials (provider_id, kind, payload) "
            "VALUES ('posthog', $1, 'bm90LXJlYWwtY2lwaGVydGV4dA')",
            kind,
        )
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        answer = await front.http.get(URL, headers=admin())
    assert answer.status_code == 200
    assert answer.json()["scopeGap"] == []
    assert answer.json()["webhookSecretConfigured"] is False


async def test_without_the_credentials_service_it_is_a_typed_503(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        answer = await front.http.get(URL, headers=admin())
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert int(answer.headers["retry-after"]) > 0
