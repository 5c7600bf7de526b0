"""Acceptance cases 12.2 that need the credentials service. The other cases are unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hogsend.contract.credentials import DerivedPayload
from tests.integration.harness import Credentials, admin, credentials_service, gateway_service
from tests.servers import Servers

URL = "/v1/admin/analytics/connect-info"


@pytest.fixture
async def service(
    servers: Servers, database_url: str, fresh_bus: None
) -> AsyncIterator[Credentials]:
    async with credentials_service(servers, database_url) as running:
        yield running


async def test_case_34_a_generated_secret_is_reported_as_configured(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="generated"))
    async with gateway_service(servers, tmp_path) as gateway:
        response = await gateway.http.get(URL, headers=admin())
    assert response.json()["webhookSecretConfigured"] is True
    assert "generated" not in response.text


@pytest.mark.parametrize("kind", ["oauth", "derived"])
async def test_case_35_an_undecryptable_row_has_no_scope_gap_and_no_secret(
    servers: Servers, service: Credentials, tmp_path: Path, kind: str
) -> None:
    async with service.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO provider_credentials (provider_id, kind, payload) "
            "VALUES ('posthog', $1, 'bm90LXJlYWwtY2lwaGVydGV4dA')",
            kind,
        )
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as gateway:
        response = await gateway.http.get(URL, headers=admin())
    assert response.status_code == 200
    assert response.json()["scopeGap"] == []
    assert response.json()["webhookSecretConfigured"] is False
