"""Responses of the gateway that depend on which services run, and on NATS permissions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenRequest
from hogsend.contract.errors import Forbidden
from hogsend.contract.users import User
from tests.integration.harness import (
    Gateway,
    admin,
    connected,
    credentials_service,
    gateway_service,
)
from tests.servers import Servers
from tests.waiting import eventually


@pytest.fixture
async def gateway(servers: Servers, fresh_bus: None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_service(
        servers, tmp_path, posthog={"posthog_webhook_secret": "s"}
    ) as running:
        yield running


async def test_a_request_to_a_service_that_is_not_running_returns_503(gateway: Gateway) -> None:
    response = await gateway.http.get("/v1/admin/events", headers=admin())
    assert response.status_code == 503
    assert response.json() == {"error": "the ingest service is not running", "code": "unavailable"}
    assert int(response.headers["retry-after"]) > 0


async def test_a_request_that_nats_forbids_returns_503_with_a_remediation(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with NATS permissions of an older version. The gateway may not request tokens.
    monkeypatch.setattr(
        "services.gateway.console.connecting.PROVISIONER_PROJECTS", CREDENTIALS_TOKEN
    )
    with capture_logs() as logs:
        response = await gateway.http.get("/console/connect/projects", headers=admin())
    assert response.status_code == 503
    assert response.json() == {
        "error": f"NATS user 'gateway' may not publish to {CREDENTIALS_TOKEN.subject}",
        "code": "forbidden",
        "remediation": Forbidden.fix,
    }
    assert int(response.headers["retry-after"]) > 0
    (entry,) = [line for line in logs if line["event"] == "answered 503"]
    assert entry["fix"] == Forbidden.fix
    assert "exc_info" not in entry


async def test_health_reports_the_services_that_are_down(
    servers: Servers, gateway: Gateway, database_url: str
) -> None:
    async with credentials_service(servers, database_url):
        health = await eventually(lambda: _health_with_credentials(gateway))
    assert health["status"] == "degraded"
    assert health["services"]["ingest"] == {"status": "down"}
    assert health["components"]["bus"] == health["components"]["redis"]
    assert health["components"]["database"]["status"] == "up"
    assert health["components"]["worker"]["status"] == "down"
    for track in ("engine", "client"):
        assert set(health["schema"][track]) == {"applied", "required", "inSync", "pending"}
    assert health["activity"]["windowHours"] == 24


async def _health_with_credentials(gateway: Gateway) -> Any:
    health = (await gateway.http.get("/v1/health")).json()
    return health if health["services"]["credentials"]["status"] == "up" else None


async def test_a_forbidden_request_raises_forbidden_and_does_not_time_out(
    servers: Servers, fresh_bus: None
) -> None:
    async with connected(servers, User.SUBSCRIBER) as bus:
        with pytest.raises(Forbidden, match="subscriber"):
            await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))
