"""What all responses have in common: error bodies, headers and documents."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import patch

import httpx
import msgspec
import pytest
from litestar.openapi.spec import OpenAPI
from structlog.testing import capture_logs

import hogsend
from hogsend.contract.errors import (
    BY_CODE,
    CannotUnseal,
    Forbidden,
    HogsendError,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from hogsend.contract.events import INGEST_EVENTS
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.client_document import console_callback
from services.gateway.error_responses import refusal_response
from services.gateway.examples import DescribedOperation
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    INGEST_KEY,
    SECRET,
    FakeGateway,
    bearer,
    fake_gateway,
)
from tests.unit.shared.test_posthog import SPECIFIED_DOCUMENT

EVENTS = "/v1/admin/events"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/admin/nothing"),
        ("DELETE", "/v1/health"),
        ("GET", "/v1/webhooks/posthog"),
        ("POST", EVENTS),
        ("GET", "/v1/admin/deadletters/x"),
        ("DELETE", "/v1/admin/deadletters"),
        ("GET", "/v1/admin/webhooks/no-uuid"),
        ("GET", "/v1/admin/../admin/nope"),
    ],
)
async def test_unknown_paths_and_methods_are_404(
    gateway: FakeGateway, method: str, url: str
) -> None:
    response = await gateway.http.request(method, url, headers=bearer())
    assert (response.status_code, response.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    "host",
    [
        "[",
        "[::1",
        "[::1]:x",
        "[::g]",
        "[1:2]",
        "a:99999",
        "a:b",
        "a@b:c",
        "a b",
        "a/b",
        "a,b",
        "\xff",
    ],
)
@pytest.mark.parametrize("url", [f"{EVENTS}?limit=x", "/.well-known/oauth-client.json", "/livez"])
async def test_an_invalid_host_header_is_400(gateway: FakeGateway, host: str, url: str) -> None:
    headers = {**bearer(), "Host": host}
    response = await gateway.http.get(url, headers=httpx.Headers(headers, encoding="latin-1"))
    assert (response.status_code, response.json()) == (400, {"error": "Invalid host header"})


async def test_a_webhook_with_an_invalid_host_header_is_400(gateway: FakeGateway) -> None:
    response = await gateway.http.post(
        "/v1/webhooks/posthog",
        json={"event": {"event": "e", "distinct_id": "u"}},
        headers=[("Host", "a b"), ("x-posthog-webhook-secret", SECRET)],
    )
    assert (response.status_code, response.json()) == (400, {"error": "Invalid host header"})
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Host", ("a", "b")),
        ("Host", ("a", "a")),
        ("x-posthog-webhook-secret", (SECRET, "wrong")),
        ("x-posthog-webhook-secret", ("wrong", SECRET)),
        ("x-posthog-webhook-secret", (SECRET, SECRET)),
        ("Authorization", (f"Bearer {SECRET}", "Bearer wrong")),
        ("Authorization", ("Bearer wrong", f"Bearer {SECRET}")),
        ("webhook-signature", ("v1,a", "v1,b")),
    ],
)
async def test_a_webhook_with_a_repeated_header_that_is_no_list_is_400(
    gateway: FakeGateway, name: str, values: tuple[str, str]
) -> None:
    headers = [("x-posthog-webhook-secret", SECRET)] if name != "x-posthog-webhook-secret" else []
    response = await gateway.http.post(
        "/v1/webhooks/posthog",
        json={"event": {"event": "e", "distinct_id": "u"}},
        headers=[*headers, *((name, value) for value in values)],
    )
    message = f"The header {name.lower()} is given more than once"
    assert (response.status_code, response.json()) == (400, {"error": message})
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize("keys", [("wrong", ADMIN_KEY), (ADMIN_KEY, "wrong")])
async def test_an_admin_request_with_two_authorization_headers_is_400(
    gateway: FakeGateway, keys: tuple[str, str]
) -> None:
    headers = [("Authorization", f"Bearer {key}") for key in keys]
    response = await gateway.http.get(EVENTS, headers=headers)
    assert response.status_code == 400
    assert gateway.bus.sent == []


async def test_headers_that_are_lists_may_be_repeated(gateway: FakeGateway) -> None:
    names = ("Accept", "Via", "X-Forwarded-For", "Forwarded", "Cookie", "Content-Type")
    repeated = [(name, value) for name in names for value in ("a", "b")]
    response = await gateway.http.post(
        "/v1/webhooks/posthog",
        json={"event": {"event": "e", "distinct_id": "u"}},
        headers=[*repeated, ("x-posthog-webhook-secret", SECRET)],
    )
    assert response.status_code == 200


async def test_a_request_of_http_1_1_without_a_host_is_400(gateway: FakeGateway) -> None:
    response = await gateway.http.get("/livez", headers={"Host": ""})
    message = "The header Host is missing or empty"
    assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize(
    "codings",
    [("gzip, chunked",), ("gzip", "chunked"), ("identity, chunked",), ("chunked", "chunked")],
)
async def test_a_transfer_coding_other_than_chunked_is_501(
    gateway: FakeGateway, codings: tuple[str, ...]
) -> None:
    headers = [("x-posthog-webhook-secret", SECRET)]
    response = await gateway.http.post(
        "/v1/webhooks/posthog",
        content=b"{}",
        headers=[*headers, *(("Transfer-Encoding", coding) for coding in codings)],
    )
    assert response.status_code == 501
    assert "Transfer-Encoding" in response.json()["error"]
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
async def test_a_chunked_body_is_accepted(gateway: FakeGateway, coding: str) -> None:
    response = await gateway.http.post(
        "/v1/webhooks/posthog",
        content=b'{"event": {"event": "e", "distinct_id": "u"}}',
        headers={"x-posthog-webhook-secret": SECRET, "Transfer-Encoding": coding},
    )
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["a", "a:", "a_b.example:3002", "[::1]", "[::1]:3002"])
async def test_a_host_header_may_be_a_name_or_an_address_with_or_without_a_port(
    gateway: FakeGateway, host: str
) -> None:
    url = "/.well-known/oauth-client.json"
    assert (await gateway.http.get(url, headers={"Host": host})).status_code == 200


async def test_a_request_is_handled_without_a_thread(gateway: FakeGateway) -> None:
    # Litestar runs a synchronous hook in a thread, which doubles the cost of a request.
    webhook = {"event": {"event": "e", "distinct_id": "u"}}
    with patch.object(
        type(asyncio.get_running_loop()), "run_in_executor", autospec=True
    ) as threads:
        posted = await gateway.http.post(
            "/v1/webhooks/posthog", json=webhook, headers={"x-posthog-webhook-secret": SECRET}
        )
        listed = await gateway.http.get(f"{EVENTS}?limit=1", headers=bearer())
    assert (posted.status_code, listed.status_code) == (200, 503)
    threads.assert_not_called()


async def test_every_response_has_security_headers_and_a_request_id(gateway: FakeGateway) -> None:
    unknown = await gateway.http.get("/nowhere", headers={"Origin": "https://app.example"})
    existing = await gateway.http.get("/livez")
    for response in (unknown, existing):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert response.headers["x-request-id"]
    assert unknown.headers["access-control-allow-origin"] == "https://app.example"
    assert existing.headers["access-control-allow-origin"] == "*"
    assert unknown.headers["vary"] == existing.headers["vary"] == "origin"
    assert unknown.headers["x-request-id"] != existing.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("GET", EVENTS, bearer()),
        ("GET", EVENTS, bearer("wrong")),
        ("GET", "/v1/contacts/find?userId=u_42", bearer()),
        ("POST", "/v1/flags/evaluate", bearer(INGEST_KEY)),
        ("POST", "/v1/webhooks/posthog", {"x-posthog-webhook-secret": SECRET}),
        ("GET", "/metrics", bearer()),
        ("GET", "/v1/health", {}),
        ("GET", "/v1/nothing", {}),
        ("GET", "/docs", {}),
    ],
)
async def test_a_response_without_a_cache_policy_of_its_own_is_no_store(
    gateway: FakeGateway, method: str, url: str, headers: dict[str, str]
) -> None:
    body = {"event": {"event": "e", "distinct_id": "u"}}
    response = await gateway.http.request(method, url, headers=headers, json=body)
    assert response.headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        ("/.well-known/oauth-client.json", "max-age=300, public"),
        ("/docs/assets/swagger-ui.css", "public, max-age=3600"),
        ("/console", "no-cache"),
    ],
)
async def test_a_response_may_have_a_cache_policy_of_its_own(url: str, policy: str) -> None:
    async with fake_gateway(console=True) as gateway:
        response = await gateway.http.get(url)
    assert response.headers.get_list("cache-control") == [policy]


async def test_a_request_id_of_the_client_is_kept_only_if_it_is_short_and_plain(
    gateway: FakeGateway,
) -> None:
    kept = await gateway.http.get("/livez", headers={"X-Request-Id": "abc-1"})
    replaced = await gateway.http.get("/livez", headers={"X-Request-Id": "a b <script>"})
    too_long = await gateway.http.get("/livez", headers={"X-Request-Id": "x" * 101})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != "a b <script>"
    assert too_long.headers["x-request-id"] != "x" * 101


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NotFound("no such event"), 404, {"error": "no such event"}),
        (CannotUnseal("cannot be decrypted"), 409, {"error": "cannot be decrypted"}),
        (TooLarge("ask for less"), 413, {"error": "ask for less"}),
        (Unavailable("it is slow"), 503, {"error": "it is slow", "code": "unavailable"}),
        (
            Forbidden("may not publish to x"),
            503,
            {"error": "may not publish to x", "code": "forbidden", "remediation": Forbidden.fix},
        ),
        (
            InvalidRequest('no "such" filter'),
            400,
            {
                "success": False,
                "error": {
                    "name": "ZodError",
                    "message": '[{"message": "no \\"such\\" filter", "path": [], '
                    '"code": "custom"}]',
                },
            },
        ),
        (HogsendError("internal details"), 500, {"error": "Internal Server Error"}),
    ],
)
async def test_an_error_of_a_service_becomes_a_status_and_a_body(
    gateway: FakeGateway, error: HogsendError, status: int, body: object
) -> None:
    gateway.bus.reply_with(INGEST_EVENTS, error)
    response = await gateway.http.get(EVENTS, headers=bearer())
    assert (response.status_code, response.json()) == (status, body)
    assert response.headers.get("retry-after") == ("5" if status == 503 else None)


@pytest.mark.parametrize("error", BY_CODE.values())
async def test_every_error_has_the_status_of_its_class_and_500_is_logged_with_a_traceback(
    gateway: FakeGateway, error: type[HogsendError]
) -> None:
    gateway.bus.reply_with(INGEST_EVENTS, error("why"))
    with capture_logs() as logs:
        response = await gateway.http.get(EVENTS, headers=bearer())
    assert response.status_code == error.status
    assert any("exc_info" in line for line in logs) == (error.status == 500)


@pytest.mark.parametrize(
    ("refusal", "status", "body"),
    [
        (Refusal("precondition", "no-secret"), 409, {"error": "no-secret"}),
        (
            Refusal("posthog", "http-error", "It is away.", "Wait."),
            502,
            {"error": "http-error", "detail": "It is away.", "remediation": "Wait."},
        ),
    ],
)
def test_a_refusal_becomes_a_status_and_a_body(refusal: Refusal, status: int, body: object) -> None:
    response = refusal_response(refusal)
    assert (response.status_code, msgspec.to_builtins(response.content)) == (status, body)


def test_a_reply_without_result_and_refusal_raises_an_error() -> None:
    with pytest.raises(ValueError, match="neither"):
        refusal_response(None)


async def test_an_unexpected_error_is_a_500_without_details_and_is_logged(
    gateway: FakeGateway,
) -> None:
    broken = patch.object(gateway.bus, "request", side_effect=RuntimeError("a password"))
    with broken, capture_logs() as logs:
        response = await gateway.http.get(EVENTS, headers=bearer())
    assert (response.status_code, response.json()) == (500, {"error": "Internal Server Error"})
    assert response.headers["x-request-id"]
    assert logs[-1]["event"] == "request failed"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=1e9", "event=" + "x" * 5000]
)
async def test_invalid_filters_are_400(gateway: FakeGateway, query: str) -> None:
    response = await gateway.http.get(f"{EVENTS}?{query}", headers=bearer())
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["error"]["name"] == "ZodError"
    assert gateway.bus.sent == []


@pytest.mark.parametrize(
    ("requested", "base"),
    [
        ("http://127.0.0.1:3002", "http://127.0.0.1:3002"),
        ("http://t.example.com", "https://t.example.com"),
        ("http://elsewhere.example", "https://t.example.com"),
    ],
)
async def test_the_client_document_has_a_loopback_url_as_requested_and_otherwise_the_public_url(
    gateway: FakeGateway, requested: str, base: str
) -> None:
    path = "/.well-known/oauth-client.json"
    document = (await gateway.http.get(f"{requested}{path}")).json()
    assert document["client_id"] == f"{base}{path}"
    assert document["client_uri"] == base
    assert "http://127.0.0.1:8423/callback" in document["redirect_uris"]
    assert document["redirect_uris"][-1] == f"{base}/console/connect/callback"


async def test_the_client_document_has_no_console_callback_when_the_console_is_disabled() -> None:
    async with fake_gateway(console=False) as gateway:
        document = (await gateway.http.get("/.well-known/oauth-client.json")).json()
        assert all("console" not in uri for uri in document["redirect_uris"])


@pytest.mark.parametrize(
    ("base", "callback"),
    [
        ("https://t.example.com", "https://t.example.com/console/connect/callback"),
        ("https://t.example.com/", "https://t.example.com/console/connect/callback"),
        ("http://localhost:3002", "http://localhost:3002/console/connect/callback"),
        ("http://[::1]:3002", "http://[::1]:3002/console/connect/callback"),
        ("http://t.example.com", None),
        ("https://t.example.com/hogsend", None),
        ("https://t.example.com?a=b", None),
        ("https://user@t.example.com", None),
    ],
)
def test_the_console_callback_is_at_an_https_origin_or_on_loopback(
    base: str, callback: str | None
) -> None:
    assert console_callback(base) == callback


async def test_the_client_document_is_served(gateway: FakeGateway) -> None:
    response = await gateway.http.get("/.well-known/hogsend-posthog-client.json")
    assert response.json() == SPECIFIED_DOCUMENT
    assert response.headers["cache-control"] == "max-age=3600, public"


async def test_health_and_the_openapi_document_have_the_version_of_the_library(
    gateway: FakeGateway,
) -> None:
    health = (await gateway.http.get("/v1/health")).json()
    document = (await gateway.http.get("/docs/openapi.json")).json()
    assert health["version"] == document["info"]["version"] == hogsend.__version__


async def test_the_openapi_document_is_built_once_and_not_in_the_event_loops_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: dict[str, list[threading.Thread]] = {"build": [], "to_schema": []}
    describe, to_schema = DescribedOperation.__post_init__, OpenAPI.to_schema

    def describe_here(operation: DescribedOperation) -> None:
        threads["build"].append(threading.current_thread())
        describe(operation)

    def to_schema_here(document: OpenAPI) -> dict[str, Any]:
        threads["to_schema"].append(threading.current_thread())
        return to_schema(document)

    monkeypatch.setattr(DescribedOperation, "__post_init__", describe_here)
    monkeypatch.setattr(OpenAPI, "to_schema", to_schema_here)
    urls = ["/docs", "/docs/openapi.json", "/docs/swagger", "/docs/openapi.json"]
    async with fake_gateway() as gateway:
        responses = await asyncio.gather(*map(gateway.http.get, urls))
    assert [response.status_code for response in responses] == [200] * len(urls)
    assert len(threads["to_schema"]) == 1
    assert len(threads["build"]) > 1
    assert threading.current_thread() not in threads["build"] + threads["to_schema"]


async def test_the_openapi_page_loads_only_files_of_the_gateway(gateway: FakeGateway) -> None:
    response = await gateway.http.get("/docs")
    # Operators type keys into this page.
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "connect-src 'self'", "form-action 'none'"} < set(policy)
    page = response.text
    assert "https://" not in page.split("<body>")[0]
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/docs/assets/{asset}" in page
        assert (await gateway.http.get(f"/docs/assets/{asset}")).status_code == 200
