"""Connecting PostHog in the browser: which keys, origins and browsers may start and finish it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hogsend.contract.authorizations import (
    CREDENTIALS_AUTHORIZE,
    CREDENTIALS_FINISH_AUTHORIZATION,
    AuthorizationBegun,
    AuthorizationFinished,
    AuthorizationRefusal,
    BeginAuthorization,
    FinishAuthorization,
    RefusalCode,
)
from hogsend.contract.credentials import CredentialMeta
from hogsend.contract.errors import Forbidden
from hogsend.contract.health import (
    PROVISIONER_HEALTH,
    DependencyHealth,
    SchemaHealth,
    ServiceHealth,
)
from hogsend.contract.provisioning import (
    PROVISIONER_PROJECTS,
    PROVISIONER_PROVISION,
    GrantedProject,
    GrantedProjects,
    ProvisionLoop,
    ProvisionReply,
    Refusal,
)
from hogsend.service import tracing
from services.gateway.console.connect_cookie import PLAIN, SECURE, token_of
from services.gateway.console.connect_origin import console_origin
from services.gateway.sessions import HEADER
from services.gateway.tracing import with_traces
from tests.unit.gateway.fakes import READ_KEY, FakeGateway, bearer, fake_gateway
from tests.unit.gateway.test_console_sessions import cookie

CONNECT = "/console/connect"
BEGIN, FINISH, CALLBACK = f"{CONNECT}/begin", f"{CONNECT}/finish", f"{CONNECT}/callback"
PUBLIC = "https://t.example.com"
PAGE = {"Origin": PUBLIC, HEADER: "1"}
AUTHORIZE = "https://eu.posthog.com/oauth/authorize/?state=s"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEGUN = AuthorizationBegun(authorize_url=AUTHORIZE, expires_at=NOON)
HEALTHY = ServiceHealth(
    service="provisioner",
    uptime=1.0,
    database=DependencyHealth(status="up"),
    schema=SchemaHealth(applied=None, required=None, pending=[]),
)
META = CredentialMeta(
    provider_id="posthog",
    kind="oauth",
    scopes=["person:read"],
    expires_at=NOON,
    scoped_teams=[7],
    created_at=NOON,
    updated_at=NOON,
)


@pytest.fixture(autouse=True)
def no_cookies(gateway: FakeGateway) -> Iterator[None]:
    """Delete the cookies after each test: all tests share the client."""
    yield
    gateway.http.cookies.clear()


def refusal(code: RefusalCode) -> AuthorizationRefusal:
    return AuthorizationRefusal(code=code, detail="It failed.", remediation="Connect again.")


async def post(
    gateway: FakeGateway, path: str, body: Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send a request as a page of the console does, without cookies of the client itself."""
    gateway.http.cookies.clear()
    all_headers = {**cookie(), **PAGE, **(headers or {})}
    return await gateway.http.post(path, json=body, headers=all_headers)


async def begin(gateway: FakeGateway, headers: dict[str, str] | None = None) -> httpx.Response:
    gateway.bus.reply_with(CREDENTIALS_AUTHORIZE, BEGUN)
    return await post(gateway, BEGIN, {"region": "eu"}, headers)


def last_message(gateway: FakeGateway) -> Any:
    return gateway.bus.sent[-1].message


async def test_beginning_sets_a_cookie_and_returns_the_url_of_the_consent_page(
    gateway: FakeGateway,
) -> None:
    response = await begin(gateway)
    assert response.status_code == 200
    assert response.json() == {"authorizeUrl": AUTHORIZE, "expiresAt": "2026-01-01T12:00:00.000Z"}
    (set_cookie,) = response.headers.get_list("set-cookie")
    name, _, attributes = set_cookie.partition("=")
    value = attributes.partition(";")[0]
    assert name == SECURE
    assert set_cookie.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Strict; Secure")
    assert "no-store" in response.headers["cache-control"]
    assert last_message(gateway) == BeginAuthorization(
        provider_id="posthog",
        private_host="https://eu.posthog.com",
        client_id=f"{PUBLIC}/.well-known/oauth-client.json",
        redirect_uri=f"{PUBLIC}{CALLBACK}",
        browser_sha256=hashlib.sha256(value.encode()).hexdigest(),
    )


async def test_projects_are_listed_for_a_key_that_may_read(gateway: FakeGateway) -> None:
    projects = GrantedProjects([GrantedProject(id="7", name="Shop"), GrantedProject(id="8")])
    gateway.bus.reply_with(PROVISIONER_PROJECTS, projects)
    response = await gateway.http.get(f"{CONNECT}/projects", headers=bearer(READ_KEY))
    assert response.json() == {"projects": [{"id": "7", "name": "Shop"}, {"id": "8", "name": None}]}
    assert (await gateway.http.get(f"{CONNECT}/projects")).status_code == 401


async def test_a_second_tab_keeps_the_cookie_of_the_first(gateway: FakeGateway) -> None:
    first = (await begin(gateway)).headers["set-cookie"].partition(";")[0]
    both = {"Cookie": f"{cookie()['Cookie']}; {first}"}
    assert (await begin(gateway, both)).headers["set-cookie"].partition(";")[0] == first
    odd = {"Cookie": f"{cookie()['Cookie']}; {SECURE}=short"}
    assert (await begin(gateway, odd)).headers["set-cookie"].partition(";")[0] != first


async def test_the_code_is_passed_on_with_the_token_and_the_credential_is_returned(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(CREDENTIALS_FINISH_AUTHORIZATION, AuthorizationFinished(credential=META))
    token = "m" * 43
    browser = {"Cookie": f"{cookie()['Cookie']}; {SECURE}={token}"}
    response = await post(gateway, FINISH, {"state": "s", "code": "c"}, browser)
    assert response.status_code == 200
    assert response.json()["scopedTeams"] == [7]
    assert "person:write" in response.json()["missingScopes"]
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert last_message(gateway) == FinishAuthorization(
        provider_id="posthog", state="s", browser_sha256=digest, code="c"
    )
    await post(gateway, FINISH, {"state": "s", "error": "access_denied"})
    assert last_message(gateway) == FinishAuthorization(
        provider_id="posthog",
        state="s",
        browser_sha256=hashlib.sha256(b"").hexdigest(),
        error="access_denied",
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [("authorization_expired", 409), ("state_mismatch", 409), ("consent_denied", 502)],
)
async def test_a_refusal_is_returned_with_its_remediation(
    gateway: FakeGateway, code: RefusalCode, status: int
) -> None:
    refused = AuthorizationFinished(refusal=refusal(code))
    gateway.bus.reply_with(CREDENTIALS_FINISH_AUTHORIZATION, refused)
    response = await post(gateway, FINISH, {"state": "s", "code": "c"})
    assert response.status_code == status
    body = {"error": code, "detail": "It failed.", "remediation": "Connect again."}
    assert response.json() == body
    gateway.bus.reply_with(CREDENTIALS_AUTHORIZE, AuthorizationBegun(refusal=refusal(code)))
    response = await post(gateway, BEGIN, {"region": "us"})
    assert (response.status_code, response.json()) == (status, body)
    assert "set-cookie" not in response.headers


async def test_a_missing_nats_permission_is_answered_409_not_permitted(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(CREDENTIALS_AUTHORIZE, Forbidden("no"))
    response = await post(gateway, BEGIN, {"region": "eu"})
    assert (response.status_code, response.json()["error"]) == (409, "not_permitted")


@pytest.mark.parametrize("path", [BEGIN, FINISH])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cookie": ""}, 401),
        (cookie(READ_KEY), 403),
        ({"Cookie": "", **bearer(READ_KEY)}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({HEADER: "0"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Cookie": "", **bearer(), "Origin": "https://evil.example"}, 403),
    ],
)
async def test_only_the_consoles_own_pages_connect_and_only_with_an_admin_key(
    gateway: FakeGateway, path: str, headers: dict[str, str], status: int
) -> None:
    gateway.bus.reply_with(CREDENTIALS_AUTHORIZE, BEGUN)
    gateway.bus.reply_with(CREDENTIALS_FINISH_AUTHORIZATION, AuthorizationFinished(credential=META))
    response = await post(gateway, path, {}, headers)
    assert response.status_code == status
    assert gateway.bus.sent == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (BEGIN, {"region": "https://evil.example"}),
        (BEGIN, {"region": "eu\r\nSet-Cookie: a=b"}),
        (BEGIN, {"privateHost": "https://evil.example"}),
        (BEGIN, {}),
        (FINISH, {"state": "s" * 5000}),
        (FINISH, {"state": "s", "iss": "https://evil.example"}),
        (FINISH, {"state": 7}),
    ],
)
async def test_a_body_with_another_posthog_host_or_invalid_fields_is_400(
    gateway: FakeGateway, path: str, body: dict[str, Any]
) -> None:
    response = await post(gateway, path, body)
    assert response.status_code == 400
    assert gateway.bus.sent == []


async def test_a_region_cannot_be_chosen_when_the_settings_name_a_posthog_host() -> None:
    async with fake_gateway(posthog={"posthog_host": "https://eu.i.posthog.com"}) as gateway:
        gateway.bus.reply_with(CREDENTIALS_AUTHORIZE, BEGUN)
        assert (await post(gateway, BEGIN, {"region": "us"})).status_code == 400
        assert (await post(gateway, BEGIN, {})).status_code == 200
        assert last_message(gateway).private_host == "https://eu.posthog.com"
        info = (await gateway.http.get(CONNECT, headers=bearer(READ_KEY))).json()
        assert info == {
            "origin": PUBLIC,
            "reason": None,
            "privateHost": "https://eu.posthog.com",
            "hostExplicit": True,
            "projectId": None,
            "isLocal": False,
        }


async def test_connecting_from_another_origin_is_refused_with_the_public_url(
    gateway: FakeGateway,
) -> None:
    response = await begin(gateway, {"Origin": "http://test"})
    assert (response.status_code, response.json()["error"]) == (409, "elsewhere")
    assert PUBLIC in response.json()["remediation"]
    assert gateway.bus.sent == []


async def test_connecting_is_refused_when_posthog_could_not_redirect_to_this_server() -> None:
    local = "http://localhost:3002"
    async with fake_gateway(public_url=local) as gateway:
        response = await begin(gateway, {"Origin": local})
        assert (response.status_code, response.json()["error"]) == (409, "no_callback")
        assert local in response.json()["detail"]
        assert "hogsend connect posthog" in response.json()["remediation"]
        assert gateway.bus.sent == []


async def test_the_callback_page_does_not_contain_the_authorization_response(
    gateway: FakeGateway,
) -> None:
    response = await gateway.http.get(f"{CALLBACK}?code=c0de&state=s7ate&error=<script>")
    assert response.status_code == 200
    assert response.content == (await gateway.http.get("/console")).content
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "c0de" not in repr(response.headers)


async def test_connecting_is_audited_without_the_code_and_the_state(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(CREDENTIALS_FINISH_AUTHORIZATION, AuthorizationFinished(credential=META))
    await begin(gateway)
    await post(gateway, FINISH, {"state": "s7ate", "code": "c0de"})
    entries = [message.body.decode() for message in gateway.bus.published.messages]
    assert ["connect/begin" in entries[0], "connect/finish" in entries[1]] == [True, True]
    assert all("console:full-admin" in entry for entry in entries)
    assert not any(secret in entry for entry in entries for secret in ("s7ate", "c0de"))


@pytest.mark.parametrize(
    ("public_url", "host", "posthog", "origin"),
    [
        (PUBLIC, "test", None, PUBLIC),
        (f"{PUBLIC}/", "127.0.0.1:3002", "https://eu.posthog.com", PUBLIC),
        (f"{PUBLIC}:8443", "test", None, f"{PUBLIC}:8443"),
        (f"{PUBLIC}:443", "test", None, PUBLIC),
        (f"{PUBLIC}/path", "test", None, None),
        ("http://t.example.com", "test", None, None),
        ("http://localhost:3002", "localhost:3002", None, None),
        ("https://localhost:3002", "localhost:3002", "https://eu.posthog.com", None),
        (
            "http://localhost:3002",
            "127.0.0.1:3002",
            "http://127.0.0.1:8010",
            "http://127.0.0.1:3002",
        ),
        (PUBLIC, "evil.example", "http://127.0.0.1:8010", PUBLIC),
        (PUBLIC, "127.0.0.1@evil.example", "http://127.0.0.1:8010", PUBLIC),
        ("http://localhost:1", "localhost/evil", "http://127.0.0.1:8010", None),
        ("http://localhost:1", "a@localhost", "http://127.0.0.1:8010", None),
    ],
)
def test_the_redirect_origin_is_public_https_or_loopback_for_a_local_posthog(
    public_url: str, host: str, posthog: str | None, origin: str | None
) -> None:
    assert console_origin(public_url, host, posthog) == origin


async def test_the_chosen_project_is_passed_on_and_must_have_a_valid_form(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(PROVISIONER_HEALTH, HEALTHY)
    refused = Refusal(reason="precondition", code="project_not_open")
    gateway.bus.reply_with(PROVISIONER_PROVISION, ProvisionReply(refusal=refused))
    url = "/v1/admin/analytics/provision-loop"
    for odd in ("", "a/b", "7%0a", "@current", "7" * 65):
        response = await gateway.http.post(f"{url}?projectId={odd}", headers=bearer())
        assert response.status_code == 400, odd
    assert gateway.bus.sent == []
    response = await gateway.http.post(f"{url}?projectId=77", headers=bearer())
    assert (response.status_code, response.json()) == (409, {"error": "project_not_open"})
    (provision,) = [
        request.message
        for request in gateway.bus.sent
        if isinstance(request.message, ProvisionLoop)
    ]
    assert provision.project_id == "77"


async def test_the_span_of_a_request_does_not_contain_its_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(tracing, "in_use", lambda: SimpleNamespace(provider=provider))

    queries: list[bytes] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        queries.append(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    traced: Any = with_traces(app)
    transport = httpx.ASGITransport(traced)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        await http.get(f"{CALLBACK}?code=c0de&state=s7ate")
        await http.get("/v1/admin/contacts?search=ada")
    assert queries == [b"code=c0de&state=s7ate", b"search=ada"]
    attributes = repr([span.attributes for span in spans.get_finished_spans()])
    assert CALLBACK in attributes
    assert not [word for word in ("c0de", "s7ate", "ada") if word in attributes]


def test_a_token_is_recognized_by_its_form() -> None:
    assert token_of({PLAIN: "a" * 43}) == "a" * 43
    assert token_of({SECURE: "a" * 42, PLAIN: "a" * 43 + "\n"}) is None


async def test_the_connect_routes_are_404_when_the_console_is_disabled() -> None:
    async with fake_gateway(console=False) as gateway:
        for path in (CONNECT, CALLBACK):
            assert (await gateway.http.get(path, headers=bearer())).status_code == 404
        for path in (BEGIN, FINISH):
            response = await gateway.http.post(path, json={}, headers={**bearer(), **PAGE})
            assert response.status_code == 404
