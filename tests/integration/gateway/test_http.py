"""What every answer has in common: error bodies, headers, limits, health, documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import hogsend
from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenRequest
from hogsend.contract.errors import Forbidden
from hogsend.contract.users import User
from tests.integration.harness import (
    READ_KEY,
    Gateway,
    admin,
    connected,
    credentials_service,
    gateway,
)
from tests.servers import Servers
from tests.unit.shared.test_posthog import SEED_DOCUMENT
from tests.waiting import eventually


@pytest.fixture
async def front(servers: Servers, fresh_bus: None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(servers, tmp_path, posthog={"posthog_webhook_secret": "s"}) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/admin/nothing"),
        ("DELETE", "/v1/health"),
        ("GET", "/v1/webhooks/posthog"),
        ("POST", "/v1/admin/events"),
        ("GET", "/v1/admin/deadletters/x"),
        ("DELETE", "/v1/admin/deadletters"),
        ("GET", "/v1/admin/../admin/nope"),
    ],
)
async def test_unknown_paths_and_methods_are_404(front: Gateway, method: str, url: str) -> None:
    answer = await front.http.request(method, url, headers=admin())
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


async def test_every_answer_is_hardened_and_has_a_request_id(front: Gateway) -> None:
    answer = await front.http.get("/nowhere", headers={"Origin": "https://app.example"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["x-request-id"]
    assert (await front.http.get("/livez")).headers["access-control-allow-origin"] == "*"


async def test_a_clients_request_id_is_kept_when_it_is_harmless(front: Gateway) -> None:
    kept = await front.http.get("/livez", headers={"X-Request-Id": "abc-1"})
    replaced = await front.http.get("/livez", headers={"X-Request-Id": "a b <script>"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != "a b <script>"


async def test_the_admin_rate_limit(servers: Servers, fresh_bus: None, tmp_path: Path) -> None:
    async with gateway(
        servers,
        tmp_path,
        posthog={"posthog_webhook_secret": "s"},
        settings={"admin_rate_limit": 3},
    ) as front:
        answers = [await front.http.get("/metrics", headers=admin()) for _ in range(4)]
        other = await front.http.get("/metrics", headers=admin(READ_KEY))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].json() == {"error": "Rate limit exceeded"}
    assert answers[3].headers["retry-after"] == "60"
    assert answers[0].headers["x-ratelimit-limit"] == "3"
    assert other.status_code == 200


async def test_metrics_need_a_key(front: Gateway) -> None:
    assert (await front.http.get("/metrics")).status_code == 401
    assert "hogsend_webhooks_accepted" in (await front.http.get("/metrics", headers=admin())).text


@pytest.mark.parametrize(
    ("asked", "base"),
    [
        ("http://127.0.0.1:3002", "http://127.0.0.1:3002"),
        ("http://t.example.com", "https://t.example.com"),
        ("http://elsewhere.example", "https://t.example.com"),
    ],
)
async def test_an_instance_describes_itself_under_its_own_url(
    front: Gateway, asked: str, base: str
) -> None:
    path = "/.well-known/oauth-client.json"
    document = (await front.http.get(f"{asked}{path}")).json()
    assert document["client_id"] == f"{base}{path}"
    assert document["client_uri"] == base
    assert "http://127.0.0.1:8423/callback" in document["redirect_uris"]


async def test_the_client_document_is_served(front: Gateway) -> None:
    answer = await front.http.get("/.well-known/hogsend-posthog-client.json")
    assert answer.json() == SEED_DOCUMENT


async def test_the_openapi_document_names_every_route(front: Gateway) -> None:
    document = (await front.http.get("/docs/openapi.json")).json()
    assert {
        "/v1/webhooks/posthog",
        "/v1/admin/provider-credentials/{provider}",
        "/v1/admin/analytics/connect-info",
        "/v1/admin/events",
        "/v1/admin/deadletters",
        "/v1/admin/deadletters/{sequence}",
        "/v1/admin/deadletters/{sequence}/replay",
        "/v1/admin/deadletters/replay",
        "/v1/admin/deadletters/purge",
        "/v1/health",
    } <= set(document["paths"])


async def test_health_and_the_openapi_document_say_the_librarys_version(front: Gateway) -> None:
    health = (await front.http.get("/v1/health")).json()
    document = (await front.http.get("/docs/openapi.json")).json()
    assert health["version"] == document["info"]["version"] == hogsend.__version__


async def test_the_openapi_page_needs_nothing_from_elsewhere(front: Gateway) -> None:
    page = (await front.http.get("/docs")).text
    assert "https://" not in page.split("<body>")[0]
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/docs/assets/{asset}" in page
        assert (await front.http.get(f"/docs/assets/{asset}")).status_code == 200


async def test_events_without_ingest_is_a_typed_503(front: Gateway) -> None:
    answer = await front.http.get("/v1/admin/events", headers=admin())
    assert answer.status_code == 503
    assert answer.json() == {"error": "the ingest service is not running", "code": "unavailable"}
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=1e9", "event=" + "x" * 5000]
)
async def test_odd_filters_are_400(front: Gateway, query: str) -> None:
    answer = await front.http.get(f"/v1/admin/events?{query}", headers=admin())
    assert answer.status_code == 400
    assert answer.json()["error"]["name"] == "ZodError"


async def test_health_names_what_is_down(
    servers: Servers, front: Gateway, database_url: str
) -> None:
    async with credentials_service(servers, database_url):
        health = await eventually(lambda: _health_with_credentials(front))
    assert health["status"] == "degraded"
    assert health["services"]["ingest"] == {"status": "down"}
    assert health["components"]["bus"] == health["components"]["redis"]
    assert health["components"]["database"]["status"] == "up"
    assert health["components"]["worker"]["status"] == "down"
    for track in ("engine", "client"):
        assert set(health["schema"][track]) == {"applied", "required", "inSync", "pending"}
    assert health["activity"]["windowHours"] == 24


async def _health_with_credentials(front: Gateway) -> Any:
    health = (await front.http.get("/v1/health")).json()
    return health if health["services"]["credentials"]["status"] == "up" else None


async def test_a_forbidden_request_is_told_apart_from_a_slow_one(
    servers: Servers, fresh_bus: None
) -> None:
    async with connected(servers, User.SUBSCRIBER) as bus:
        with pytest.raises(Forbidden, match="subscriber"):
            await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))
