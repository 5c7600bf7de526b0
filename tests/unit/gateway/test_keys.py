"""API keys: permissions, rate limits, and the limit for wrong keys of an address.

Cases 1 to 3 of 12.1. Cases 4 and 5 need Hogsend's database keys, which are not part of this
product; case 3 (403 for a valid key that is not full-admin) is tested with the read key.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from services.gateway.admin_keys import FAILED_KEYS
from services.gateway.routes.not_offered import NOT_OFFERED
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    INGEST_KEY,
    READ_KEY,
    FakeGateway,
    bearer,
    fake_gateway,
)

CAPABILITIES = "/v1/admin/capabilities"
EVENTS = "/v1/admin/events"
CREDENTIAL = "/v1/admin/provider-credentials/posthog"
DESTINATION = "/v1/admin/webhooks/6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11"
ADMIN_ONLY = [
    ("DELETE", "/v1/admin/contacts/0197a1b2-7f3c-7000-8000-00000000000a"),
    ("PUT", CREDENTIAL),
    ("GET", CREDENTIAL),
    ("DELETE", CREDENTIAL),
    ("GET", "/v1/admin/analytics/connect-info"),
    ("POST", "/v1/admin/analytics/provision-loop"),
    ("GET", "/v1/admin/audit"),
    ("POST", "/v1/admin/deadletters/replay"),
    ("POST", "/v1/admin/deadletters/purge"),
    ("POST", "/v1/admin/deadletters/1/replay"),
    ("DELETE", "/v1/admin/deadletters/1"),
    ("POST", "/v1/admin/webhooks"),
    ("PATCH", DESTINATION),
    ("DELETE", DESTINATION),
    ("POST", f"{DESTINATION}/pause"),
    ("POST", f"{DESTINATION}/resume"),
    ("POST", f"{DESTINATION}/test"),
    ("POST", f"{DESTINATION}/rotate-secret"),
]
READERS = [
    ("GET", EVENTS),
    ("GET", CAPABILITIES),
    ("GET", "/v1/admin/analytics/diagnosis"),
    ("GET", "/v1/admin/deadletters"),
    ("GET", "/v1/admin/deadletters/1"),
    ("GET", "/v1/admin/webhooks"),
    ("GET", DESTINATION),
    ("GET", f"{DESTINATION}/deliveries"),
    ("GET", "/metrics"),
]


OPEN = {
    ("POST", "/v1/webhooks/posthog"),
    ("POST", "/v1/webhooks/{source}"),
    ("GET", "/v1/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/.well-known/hogsend-posthog-client.json"),
    ("GET", "/.well-known/oauth-client.json"),
    ("GET", "/docs"),
    ("GET", "/docs/swagger"),
    ("GET", "/docs/openapi.json"),
    ("GET", "/docs/oauth2-redirect.html"),
    ("GET", "/docs/{path}"),
    ("GET", "/docs/assets/{name}"),
    ("GET", "/"),
    ("GET", "/console"),
    ("GET", "/console/{name}"),
    ("GET", "/console/connect/callback"),
    ("POST", "/console/session"),
    ("DELETE", "/console/session"),
}
"""Routes that need no API key."""
REPORTING = {("POST", "/v1/events"), ("PUT", "/v1/contacts"), ("POST", "/v1/flags/evaluate")}
"""Routes that an ingest key may call, and a read key may not."""
PARAMETERS = {int: "7", UUID: "6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11"}


def closed_routes(gateway: FakeGateway) -> list[tuple[str, str, str]]:
    """Return each offered route that needs a key: method, template, and path with parameters."""
    not_offered = tuple(route.path for route in NOT_OFFERED)
    closed = []
    for route in gateway.routes:
        path = route.path_format
        for name, parameter in route.path_parameters.items():
            path = path.replace(f"{{{name}}}", PARAMETERS.get(parameter.type, "x"))
        closed += [
            (method, route.path_format, path)
            for method in sorted(route.methods - {"OPTIONS", "HEAD"})
            if (method, route.path_format) not in OPEN and not path.startswith(not_offered)
        ]
    return closed


async def status(gateway: FakeGateway, key: str | None, url: str = CAPABILITIES) -> int:
    headers = bearer(key) if key is not None else {}
    return (await gateway.http.get(url, headers=headers)).status_code


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ADMIN_KEY},
        {"Authorization": f"bearer {ADMIN_KEY}"},
        {"Authorization": f"Bearer  {ADMIN_KEY}"},
        {"X-Api-Key": ADMIN_KEY},
    ],
)
async def test_case_1_without_a_bearer_every_admin_route_is_401(
    gateway: FakeGateway, headers: dict[str, str]
) -> None:
    for method, url in ADMIN_ONLY + READERS:
        response = await gateway.http.request(method, url, headers=headers, json={"all": True})
        assert refusal(response) == (401, "Unauthorized"), url
    assert gateway.bus.sent == []


@pytest.mark.parametrize("key", ["wrong", "", "k-admi", "k-adminn", "k-ädmin"])
async def test_case_2_an_unknown_bearer_is_401(gateway: FakeGateway, key: str) -> None:
    headers = [(b"Authorization", f"Bearer {key}".encode())]
    response = await gateway.http.get(CREDENTIAL, headers=headers)
    assert refusal(response) == (401, "Unauthorized")


@pytest.mark.parametrize("key", [READ_KEY, INGEST_KEY])
async def test_case_3_a_key_of_another_scope_is_403(gateway: FakeGateway, key: str) -> None:
    for method, url in ADMIN_ONLY:
        response = await gateway.http.request(method, url, headers=bearer(key), json={"all": True})
        assert refusal(response) == (403, "Forbidden: insufficient scope"), url
    assert gateway.bus.sent == []


async def test_every_route_requires_a_key_except_those_that_are_listed_as_open(
    gateway: FakeGateway,
) -> None:
    routes = closed_routes(gateway)
    assert len(routes) > 40
    for method, template, path in routes:
        response = await gateway.http.request(method, path, json={})
        assert response.status_code == 401, f"{method} {template}"
    assert gateway.bus.sent == []


async def test_an_ingest_key_may_only_call_the_routes_that_report(gateway: FakeGateway) -> None:
    for method, template, path in closed_routes(gateway):
        is_refused = (method, template) not in REPORTING
        response = await gateway.http.request(method, path, json={}, headers=bearer(INGEST_KEY))
        assert (response.status_code == 403) is is_refused, f"{method} {template}"
    assert gateway.bus.sent == []


async def test_a_read_key_changes_nothing(gateway: FakeGateway) -> None:
    changing = [route for route in closed_routes(gateway) if route[0] != "GET"]
    assert len(changing) > 20
    for method, template, path in changing:
        response = await gateway.http.request(method, path, json={}, headers=bearer(READ_KEY))
        assert response.status_code == 403, f"{method} {template}"
    assert gateway.bus.sent == []


async def test_a_read_key_may_read_and_an_ingest_key_may_not(gateway: FakeGateway) -> None:
    for _, url in READERS:
        # 503: the gateway accepted the request, but no service runs that could reply.
        assert await status(gateway, READ_KEY, url) in {200, 503}, url
        assert await status(gateway, INGEST_KEY, url) == 403, url


@pytest.mark.parametrize(
    ("key", "expected"), [(INGEST_KEY, 503), (ADMIN_KEY, 503), (READ_KEY, 403)]
)
async def test_events_are_reported_with_an_ingest_or_admin_key(
    gateway: FakeGateway, key: str, expected: int
) -> None:
    event = {"event": "signed_up", "userId": "u_42"}
    response = await gateway.http.post("/v1/events", json=event, headers=bearer(key))
    assert response.status_code == expected


async def test_without_any_key_configured_every_request_is_401() -> None:
    nothing: dict[str, Any] = {
        "admin_api_key": None,
        "admin_read_api_key": None,
        "ingest_api_key": None,
    }
    async with fake_gateway(**nothing) as gateway:
        assert [await status(gateway, key) for key in (None, "", ADMIN_KEY)] == [401, 401, 401]


async def test_previous_keys_are_valid_next_to_the_current_one() -> None:
    keys: dict[str, Any] = {
        "admin_api_key_previous": "k-old, k-older",
        "admin_read_api_key_previous": "k-old-reader",
        "ingest_api_key_previous": "k-old-reporter",
    }
    async with fake_gateway(**keys) as gateway:
        statuses = [await status(gateway, key) for key in (ADMIN_KEY, "k-old", "k-older")]
        assert statuses == [200, 200, 200]
        assert await status(gateway, "k-old-reader") == 200
        assert await status(gateway, "k-old-reporter") == 403
        assert await status(gateway, "k-old, k-older") == 401


async def test_wrong_keys_are_rate_limited_and_a_valid_key_is_not() -> None:
    async with fake_gateway(admin_failed_key_limit=3) as gateway:
        # A request without a key does not count as a wrong key.
        assert {await status(gateway, None) for _ in range(9)} == {401}
        guesses = [await status(gateway, f"k-{number}") for number in range(4)]
        assert guesses == [401, 401, 401, 429]
        refused = await gateway.http.get(CAPABILITIES, headers=bearer("k-9"))
        assert refusal(refused) == (429, "Too many wrong keys")
        assert refused.headers["retry-after"] == "60"
        # Behind a proxy all clients share one address: a valid key must work despite wrong ones.
        assert await status(gateway, ADMIN_KEY) == 200
        event = {"event": "signed_up", "userId": "u_42"}
        reported = await gateway.http.post("/v1/events", headers=bearer(INGEST_KEY), json=event)
        assert reported.status_code == 503
        assert await status(gateway, None, "/livez") == 200


async def test_requests_with_an_unknown_key_are_counted(gateway: FakeGateway) -> None:
    async def increase(key: str | None) -> float:
        before = FAILED_KEYS._value.get()
        await status(gateway, key)
        return FAILED_KEYS._value.get() - before

    assert [await increase(key) for key in ("guess", ADMIN_KEY, INGEST_KEY, None)] == [1, 0, 0, 0]


def client_at(gateway: FakeGateway, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(gateway.app, client=(address, 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_wrong_keys_are_counted_separately_for_each_address() -> None:
    async with fake_gateway(admin_failed_key_limit=1) as gateway:
        assert [await status(gateway, f"guess-{number}") for number in range(2)] == [401, 429]
        async with client_at(gateway, "192.0.2.7") as http:
            response = await http.get(CAPABILITIES, headers=bearer("guess-2"))
    assert response.status_code == 401


async def test_the_same_wrong_key_is_counted_across_addresses() -> None:
    async with fake_gateway(admin_failed_key_limit=1) as gateway:
        statuses = []
        for address in ("192.0.2.7", "192.0.2.8"):
            async with client_at(gateway, address) as http:
                response = await http.get(CAPABILITIES, headers=bearer("old"))
                statuses.append(response.status_code)
    assert statuses == [401, 429]


async def test_wrong_keys_are_counted_by_client_behind_a_trusted_proxy() -> None:
    async with fake_gateway(admin_failed_key_limit=1, trusted_proxies="127.0.0.0/8") as gateway:
        statuses = []
        for number, client in enumerate(("192.0.2.7", "192.0.2.7", "192.0.2.8")):
            headers = {**bearer(f"guess-{number}"), "X-Forwarded-For": f"10.9.9.9, {client}"}
            statuses.append((await gateway.http.get(CAPABILITIES, headers=headers)).status_code)
    assert statuses == [401, 429, 401]


async def test_a_key_of_under_16_characters_is_logged_as_guessable() -> None:
    with capture_logs() as logs:
        async with fake_gateway(admin_api_key="x" * 16, admin_read_api_key="y" * 15):
            pass
        async with fake_gateway(
            admin_api_key="x" * 16, admin_read_api_key=None, ingest_api_key=None
        ):
            pass
    assert ["can be guessed" in line["event"] for line in logs] == [True]


async def test_a_valid_key_of_another_scope_does_not_count_as_a_wrong_key() -> None:
    async with fake_gateway(admin_failed_key_limit=1) as gateway:
        assert {await status(gateway, INGEST_KEY) for _ in range(3)} == {403}


async def test_each_scope_has_its_own_rate_limit() -> None:
    async with fake_gateway(admin_rate_limit=3) as gateway:
        responses = [await gateway.http.get("/metrics", headers=bearer()) for _ in range(4)]
        reader = await gateway.http.get("/metrics", headers=bearer(READ_KEY))
    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert [response.headers["x-ratelimit-remaining"] for response in responses] == [
        "2",
        "1",
        "0",
        "0",
    ]
    assert responses[3].json() == {"error": "Rate limit exceeded"}
    assert responses[3].headers["retry-after"] == "60"
    assert responses[0].headers["x-ratelimit-limit"] == "3"
    assert reader.status_code == 200


async def test_reporting_events_has_no_rate_limit() -> None:
    async with fake_gateway(admin_rate_limit=1) as gateway:
        event = {"event": "signed_up", "userId": "u_42"}
        responses = [
            await gateway.http.post("/v1/events", json=event, headers=bearer(INGEST_KEY))
            for _ in range(3)
        ]
    assert {response.status_code for response in responses} == {503}
    assert "x-ratelimit-limit" not in responses[0].headers
