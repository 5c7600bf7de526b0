"""The gateway's answers that depend on which services run on a real NATS."""

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


async def test_events_without_ingest_is_a_typed_503(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/admin/events", headers=admin())
    assert answer.status_code == 503
    assert answer.json() == {"error": "the ingest service is not running", "code": "unavailable"}
    assert int(answer.headers["retry-after"]) > 0


async def test_what_nats_forbids_is_a_typed_503_that_says_what_to_do(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with a NATS that was not brought up to date: no gateway may ask for a token.
    monkeypatch.setattr(
        "services.gateway.console.connecting.PROVISIONER_PROJECTS", CREDENTIALS_TOKEN
    )
    with capture_logs() as logs:
        answer = await gateway.http.get("/console/connect/projects", headers=admin())
    assert answer.status_code == 503
    assert answer.json() == {
        "error": f"NATS user 'gateway' may not publish to {CREDENTIALS_TOKEN.subject}",
        "code": "forbidden",
        "remediation": Forbidden.fix,
    }
    assert int(answer.headers["retry-after"]) > 0
    (said,) = [line for line in logs if line["event"] == "answered 503"]
    assert said["fix"] == Forbidden.fix
    assert "exc_info" not in said


async def test_health_names_what_is_down(
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


async def test_a_forbidden_request_is_told_apart_from_a_slow_one(
    servers: Servers, fresh_bus: None
) -> None:
    async with connected(servers, User.SUBSCRIBER) as bus:
        with pytest.raises(Forbidden, match="subscriber"):
            await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))
