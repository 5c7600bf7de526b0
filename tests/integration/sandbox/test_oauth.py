"""The OAuth server, as in contract section 3 and by the rules of django-oauth-toolkit."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import httpx
import pytest
from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT

from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES, missing
from sandbox.oauth.documents import Client
from sandbox.oauth.grants import Reach
from tests.integration.sandbox.driver import (
    REDIRECT_URI,
    VERIFIER,
    Driver,
    authorization,
    bearer,
    callback,
    challenge,
    sandbox,
)

PROJECT = "/api/projects/@current/"


async def test_discovery_announces_only_existing_endpoints(posthog: Driver) -> None:
    document = (await posthog.http.get("/.well-known/oauth-authorization-server")).json()
    assert document["issuer"] == posthog.url
    assert document["token_endpoint"] == f"{posthog.url}/oauth/token/"
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["client_id_metadata_document_supported"] is True
    assert set(SCOPES) <= set(document["scopes_supported"])
    for name, address in document.items():
        if name.endswith("_endpoint"):
            statuses = {
                await _status(posthog, "GET", address),
                await _status(posthog, "POST", address),
            }
            assert 404 not in statuses, name


async def _status(posthog: Driver, method: str, address: str) -> int:
    return (await posthog.http.request(method, address)).status_code


async def test_the_authorization_code_flow_issues_tokens_for_one_project(posthog: Driver) -> None:
    response = await posthog.exchange(await posthog.code())
    tokens = response.json()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert tokens["access_token"].startswith("pha_")
    assert tokens["refresh_token"].startswith("phr_")
    assert tokens["expires_in"] == 3600
    assert tokens["token_type"] == "Bearer"
    assert tokens["scoped_teams"] == [4242]
    assert tokens["scoped_organizations"] == []
    project = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
    assert project.json()["id"] == 4242
    assert project.json()["api_token"] == posthog.instance.options.project_key


async def test_a_read_and_a_write_scope_are_granted_as_the_write_scope(posthog: Driver) -> None:
    granted = (await posthog.tokens())["scope"].split()
    assert "person:write" in granted
    assert "person:read" not in granted
    assert missing(granted) == []


async def test_unknown_scopes_are_dropped_and_an_empty_scope_grants_all(posthog: Driver) -> None:
    assert (await posthog.tokens(scope="person:read no_such:read"))["scope"] == "person:read"
    assert "hog_function:write" in (await posthog.tokens(scope=""))["scope"].split()


async def test_the_access_level_limits_the_grant_to_a_project_or_an_organization(
    posthog: Driver,
) -> None:
    for level in ("", "all"):
        assert (await posthog.tokens(required_access_level=level))["scoped_teams"] == []
    project = await posthog.tokens(required_access_level="project")
    assert (project["scoped_teams"], project["scoped_organizations"]) == ([4242], [])
    organization = await posthog.tokens(required_access_level="organization")
    assert organization["scoped_organizations"] == [posthog.instance.project.organization]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"prompt": "none"}, "consent_required"),
    ],
)
async def test_an_invalid_authorization_request_is_refused_through_the_redirect(
    posthog: Driver, changes: dict[str, str | None], error: str
) -> None:
    response = await posthog.http.get("/oauth/authorize/", params=authorization(**changes))
    assert callback(response)["error"] == error
    assert callback(response)["state"] == "a-state"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "not-a-url"},
        {"redirect_uri": "http://127.0.0.1:8424/elsewhere"},
        {"redirect_uri": "http://evil.example.com/callback"},
        {"redirect_uri": "http://127.0.0.1:8424@evil.example.com/callback"},
        {"redirect_uri": "https://127.0.0.1:8424/callback"},
    ],
)
async def test_an_invalid_client_or_redirect_uri_is_refused_without_a_redirect(
    posthog: Driver, changes: dict[str, str | None]
) -> None:
    response = await posthog.http.get("/oauth/authorize/", params=authorization(**changes))
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"
    assert "Location" not in response.headers


async def test_a_missing_redirect_uri_is_refused_when_the_client_has_several(
    posthog: Driver,
) -> None:
    response = await posthog.http.get(
        "/oauth/authorize/", params=authorization(redirect_uri=None, response_type=None)
    )
    expected = {"error": "invalid_request", "error_description": "Missing redirect URI."}
    assert (response.status_code, response.json()) == (400, expected)


async def test_a_loopback_redirect_uri_is_accepted_with_any_port(posthog: Driver) -> None:
    redirect_uri = "http://127.0.0.1:59999/callback"
    response = await posthog.http.get(
        "/oauth/authorize/", params=authorization(redirect_uri=redirect_uri)
    )
    assert response.headers["Location"].startswith(f"{redirect_uri}?code=")


OTHER_CLIENT = "https://other.example.com/client.json"
INVALID_GRANT: dict[str, str] = {"error": "invalid_grant"}
INVALID_CLIENT: dict[str, str] = {"error": "invalid_client"}
INVALID_SCOPE: dict[str, str] = {"error": "invalid_scope"}


def invalid_request(description: str) -> dict[str, str]:
    return {"error": "invalid_request", "error_description": description}


# The responses of django-oauth-toolkit 3.4.
INVALID_EXCHANGES: list[tuple[dict[str, str | None], int, dict[str, str]]] = [
    ({"code": "unknown"}, 400, INVALID_GRANT),
    ({"code": ""}, 400, INVALID_GRANT),
    ({"code": None}, 400, invalid_request("Missing code parameter.")),
    ({"code_verifier": None}, 400, invalid_request("Code verifier required.")),
    ({"code_verifier": ""}, 400, INVALID_GRANT),
    ({"code_verifier": "x" * 43}, 400, INVALID_GRANT),
    ({"client_id": OTHER_CLIENT}, 401, INVALID_CLIENT),
    ({"client_id": ""}, 401, INVALID_CLIENT),
    ({"client_id": None}, 401, INVALID_CLIENT),
    ({"client_secret": "s"}, 401, INVALID_CLIENT),
    (
        {"redirect_uri": "http://127.0.0.1:8423/callback"},
        400,
        invalid_request("Mismatching redirect URI."),
    ),
    ({"redirect_uri": None}, 400, invalid_request("Missing redirect URI.")),
    ({"grant_type": "password"}, 400, invalid_request("Request is missing username parameter.")),
    ({"grant_type": "client_credentials"}, 401, INVALID_CLIENT),
    ({"grant_type": "implicit"}, 400, {"error": "unsupported_grant_type"}),
    ({"grant_type": None}, 400, {"error": "unsupported_grant_type"}),
]


async def test_an_invalid_exchange_is_refused_and_the_code_stays_valid(posthog: Driver) -> None:
    code = await posthog.code()
    for changes, status, body in INVALID_EXCHANGES:
        response = await posthog.exchange(**{"code": code, **changes})
        assert (response.status_code, response.json()) == (status, body), changes
        assert response.headers["Cache-Control"] == "no-store"
        challenge = 'Bearer error="invalid_client"' if status == 401 else None
        assert response.headers.get("WWW-Authenticate") == challenge
    assert (await posthog.exchange(code, client_secret="")).status_code == 200


async def test_a_code_is_exchanged_once_and_its_tokens_stay_valid_after_a_second_attempt(
    posthog: Driver,
) -> None:
    code = await posthog.code()
    tokens = (await posthog.exchange(code)).json()
    assert (await posthog.exchange(code)).json() == INVALID_GRANT
    used = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
    assert used.status_code == 200, (
        "neither PostHog nor its toolkit revokes the tokens of a reused code"
    )


async def test_a_code_is_valid_for_five_minutes(posthog: Driver) -> None:
    code = await posthog.code()
    await posthog.advance(301)
    assert (await posthog.exchange(code)).json() == {"error": "invalid_grant"}


async def test_tokens_can_be_requested_in_json(posthog: Driver) -> None:
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": (await posthog.tokens())["refresh_token"],
        "client_id": CLIENT_ID,
    }
    assert (await posthog.http.post("/oauth/token", json=fields)).status_code == 200
    for body, description in (
        (b"{", "Invalid JSON payload"),
        (b"[]", "JSON payload must be an object"),
        (b'{"code":[]}', "Parameter 'code' must be a string"),
        (b'{"grant_type":"refresh_token"}', "Missing refresh token parameter."),
        (
            b'{"grant_type":"refresh_token","refresh_token":null}',
            "Missing refresh token parameter.",
        ),
    ):
        broken = await posthog.http.post(
            "/oauth/token/", content=body, headers={"Content-Type": "application/json"}
        )
        assert (broken.status_code, broken.json()) == (400, invalid_request(description))


async def test_an_access_token_expires() -> None:
    async with sandbox(token_seconds=60) as posthog:
        tokens = await posthog.tokens()
        headers = bearer(tokens["access_token"])
        assert tokens["expires_in"] == 60
        assert (await posthog.http.get(PROJECT, headers=headers)).status_code == 200
        await posthog.advance(61)
        refused = await posthog.http.get(PROJECT, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["detail"] == "Access token has expired."


async def test_a_refresh_rotates_the_refresh_token_and_revokes_the_previous_access_token(
    posthog: Driver,
) -> None:
    first = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    assert second["scoped_teams"] == [4242]
    old = await posthog.http.get(PROJECT, headers=bearer(first["access_token"]))
    new = await posthog.http.get(PROJECT, headers=bearer(second["access_token"]))
    assert (old.status_code, new.status_code) == (401, 200)


async def test_a_rotated_refresh_token_returns_the_same_pair_within_the_grace_period(
    posthog: Driver,
) -> None:
    first = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    await posthog.advance(119)
    again = (await posthog.refresh(first["refresh_token"])).json()
    assert again["access_token"] == second["access_token"]
    assert again["refresh_token"] == second["refresh_token"]
    counts = (await posthog.state())["oauth"]
    assert (counts["refreshes"], counts["replays"], counts["families_revoked"]) == (1, 1, 0)


async def test_a_rotated_refresh_token_revokes_its_family_after_the_grace_period(
    posthog: Driver,
) -> None:
    first = await posthog.tokens()
    other = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    await posthog.advance(121)
    assert (await posthog.refresh(first["refresh_token"])).json() == {"error": "invalid_grant"}
    used = await posthog.http.get(PROJECT, headers=bearer(second["access_token"]))
    assert used.status_code == 401
    assert (await posthog.state())["oauth"]["families_revoked"] == 1
    # Another authorization is another token family.
    assert (await posthog.refresh(other["refresh_token"])).status_code == 200
    await posthog.advance(121)
    assert (await posthog.refresh(second["refresh_token"])).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize("is_rotating", [True, False])
async def test_a_refresh_can_drop_scopes_but_never_add_them(is_rotating: bool) -> None:
    async with sandbox(rotate_refresh_tokens=is_rotating) as posthog:
        first = await posthog.tokens(scope="person:read project:read")
        token = first["refresh_token"]
        for scope in ("person:write", "person:read person:write", "openid", "*"):
            refused = await posthog.refresh(token, scope=scope)
            assert (refused.status_code, refused.json()) == (400, INVALID_SCOPE)
        same = (await posthog.refresh(token, scope="project:read person:read")).json()
        assert same["scope"] == "project:read person:read"
        narrow = (await posthog.refresh(same["refresh_token"], scope="project:read")).json()
        assert narrow["scope"] == "project:read"
        token = narrow["refresh_token"]
        assert (await posthog.refresh(token, scope="person:read")).json() == INVALID_SCOPE
        last = (await posthog.refresh(token)).json()
        assert last["scope"] == "project:read"
        used = await posthog.http.get(
            "/api/projects/4242/persons/", headers=bearer(last["access_token"])
        )
        assert used.status_code == 403


async def test_a_repeated_refresh_is_limited_to_the_scopes_of_the_first(posthog: Driver) -> None:
    first = await posthog.tokens(scope="person:read project:read")
    narrow = (await posthog.refresh(first["refresh_token"], scope="project:read")).json()
    again = await posthog.refresh(first["refresh_token"], scope="project:read")
    assert again.json() == narrow
    wide = await posthog.refresh(first["refresh_token"], scope="person:read project:read")
    assert wide.json() == INVALID_SCOPE


async def test_a_rotated_refresh_token_is_refused_at_once_without_a_grace_period() -> None:
    async with sandbox(grace_seconds=0) as posthog:
        first = await posthog.tokens()
        await posthog.refresh(first["refresh_token"])
        assert (await posthog.refresh(first["refresh_token"])).status_code == 400


async def test_a_refresh_without_rotation_keeps_the_refresh_and_access_tokens_valid() -> None:
    async with sandbox(rotate_refresh_tokens=False) as posthog:
        first = await posthog.tokens()
        second = (await posthog.refresh(first["refresh_token"])).json()
        assert second["refresh_token"] == first["refresh_token"]
        assert second["access_token"] != first["access_token"]
        for tokens in (first, second):
            used = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
            assert used.status_code == 200


async def test_a_refresh_token_is_valid_for_thirty_days(posthog: Driver) -> None:
    tokens = await posthog.tokens()
    await posthog.advance(30 * 86_400 + 1)
    assert (await posthog.refresh(tokens["refresh_token"])).json() == {"error": "invalid_grant"}


async def test_a_refresh_token_belongs_to_its_client(posthog: Driver) -> None:
    token = (await posthog.tokens())["refresh_token"]
    unknown = await posthog.refresh(token, client_id=OTHER_CLIENT)
    assert (unknown.status_code, unknown.json()) == (401, INVALID_CLIENT)
    assert unknown.headers["WWW-Authenticate"] == 'Bearer error="invalid_client"'
    register(posthog, OTHER_CLIENT)
    other = await posthog.refresh(token, client_id=OTHER_CLIENT)
    assert (other.status_code, other.json()) == (400, INVALID_GRANT)
    basic = await posthog.http.post(
        "/oauth/token/",
        data={"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID},
        auth=("me", "secret"),
    )
    assert (basic.status_code, basic.json()) == (401, INVALID_CLIENT)
    assert (await posthog.refresh(token)).status_code == 200


def register(posthog: Driver, client_id: str) -> None:
    """Cache a client, as after its first authorization request."""
    client = Client(client_id, "Other", (REDIRECT_URI,))
    posthog.instance.documents._cache[client_id] = (0.0, client)


async def test_a_token_can_be_revoked_only_by_its_client(posthog: Driver) -> None:
    tokens = await posthog.tokens()
    register(posthog, OTHER_CLIENT)

    async def revoke(**fields: str) -> httpx.Response:
        return await posthog.http.post("/oauth/revoke/", data=fields)

    async def is_valid() -> bool:
        response = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
        return response.status_code == 200

    for token in (tokens["access_token"], tokens["refresh_token"], "unknown"):
        response = await revoke(token=token, client_id=OTHER_CLIENT, token_type_hint="unknown")
        assert (response.status_code, response.content) == (200, b"")
    assert await is_valid()
    missing = invalid_request("Missing token parameter.")
    assert (await revoke(client_id=CLIENT_ID)).json() == missing
    assert (await revoke(client_id=CLIENT_ID, token="")).json() == missing
    for fields in ({"token": "x"}, {"token": "x", "client_id": "https://new.example.com/c.json"}):
        refused = await revoke(**fields)
        assert (refused.status_code, refused.json()) == (401, INVALID_CLIENT)
        assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_client"'
    await revoke(token=tokens["access_token"], client_id=CLIENT_ID)
    assert not await is_valid()


async def test_revoking_a_refresh_token_without_rotation_revokes_all_access_tokens() -> None:
    async with sandbox(rotate_refresh_tokens=False) as posthog:
        first = await posthog.tokens()
        second = (await posthog.refresh(first["refresh_token"])).json()
        fields = {"token": first["refresh_token"], "client_id": CLIENT_ID}
        await posthog.http.post("/oauth/revoke/", data=fields)
        for tokens in (first, second):
            used = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
            assert used.status_code == 401


async def test_revoking_a_refresh_token_revokes_its_access_token(posthog: Driver) -> None:
    tokens = await posthog.tokens()
    fields = {"token": tokens["refresh_token"], "client_id": CLIENT_ID}
    assert (await posthog.http.post("/oauth/revoke/", data=fields)).status_code == 200
    assert (await posthog.http.post("/oauth/revoke/", data=fields)).status_code == 200
    used = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
    assert used.status_code == 401
    assert (await posthog.refresh(tokens["refresh_token"])).status_code == 400


async def test_an_access_token_can_introspect_itself_only(posthog: Driver) -> None:
    tokens = await posthog.tokens(scope="person:read", required_access_level="project")
    token = tokens["access_token"]
    expected = {
        "active": True,
        "token_type": "access_token",
        "scope": "person:read",
        "is_impersonated": False,
        "scoped_teams": [4242],
        "scoped_organizations": [],
        "exp": int(posthog.instance.clock.now()) + 3600,
        "client_id": CLIENT_ID,
        "client_name": "Hogsend",
    }
    path, headers = "/oauth/introspect/", bearer(token)
    for response in (
        await posthog.http.post(path, data={"token": token}, headers=headers),
        await posthog.http.post(path, json={"token": token}, headers=headers),
        await posthog.http.get(path, params={"token": token}, headers=headers),
    ):
        assert response.status_code == 200
        assert response.json() | {"exp": 0} == expected | {"exp": 0}
        assert abs(response.json()["exp"] - expected["exp"]) <= 2
    # The token cannot introspect another one, not even its own refresh token.
    assert (await introspect(posthog, token, tokens["refresh_token"])).status_code == 403
    await posthog.advance(3601)
    expired = await introspect(posthog, token, token)
    assert (expired.status_code, expired.json()) == (200, {"active": False})


async def test_a_token_with_the_introspection_scope_can_introspect_tokens_of_its_client(
    posthog: Driver,
) -> None:
    plain = await posthog.tokens(scope="person:read", required_access_level="organization")
    authorized = (await posthog.tokens(scope="introspection"))["access_token"]
    access = (await introspect(posthog, authorized, plain["access_token"])).json()
    assert (access["active"], access["scope"]) == (True, "person:read")
    assert (await introspect(posthog, authorized, plain["refresh_token"])).json() == {
        "active": True,
        "token_type": "refresh_token",
        "scoped_teams": [],
        "scoped_organizations": [posthog.instance.project.organization],
        "client_id": CLIENT_ID,
        "client_name": "Hogsend",
    }
    for token in ("unknown", ""):
        assert (await introspect(posthog, authorized, token)).json() == {"active": False}
    grants = posthog.instance.grants
    register(posthog, OTHER_CLIENT)
    code = grants.issue_code(Reach(OTHER_CLIENT, ("person:read",)), REDIRECT_URI, challenge())
    client = Client(OTHER_CLIENT, "Other", (REDIRECT_URI,))
    foreign = grants.exchange(code, client, REDIRECT_URI, VERIFIER)
    for token in (foreign.access_token, foreign.refresh_token):
        assert (await introspect(posthog, authorized, token)).json() == {"active": False}
    await posthog.http.post(
        "/oauth/revoke/", data={"token": plain["access_token"], "client_id": CLIENT_ID}
    )
    assert (await introspect(posthog, authorized, plain["access_token"])).json() == {
        "active": False
    }
    rotated = (await posthog.refresh(plain["refresh_token"])).json()
    assert (await introspect(posthog, authorized, plain["refresh_token"])).json() == {
        "active": False
    }
    assert (await introspect(posthog, authorized, rotated["refresh_token"])).json()[
        "active"
    ] is True


async def test_introspection_without_a_valid_access_token_is_refused(posthog: Driver) -> None:
    token = (await posthog.tokens())["access_token"]
    for bearer_token in ("unknown", "phr_unknown", posthog.instance.options.personal_key):
        response = await introspect(posthog, bearer_token, token)
        assert (response.status_code, response.content) == (403, b"")
    assert (await posthog.http.post("/oauth/introspect/")).status_code == 403


async def introspect(posthog: Driver, bearer_token: str, token: str) -> httpx.Response:
    return await posthog.http.post(
        "/oauth/introspect/", data={"token": token}, headers=bearer(bearer_token)
    )


async def test_userinfo_requires_the_openid_scope(posthog: Driver) -> None:
    plain = (await posthog.tokens(scope="person:read"))["access_token"]
    authorized = (await posthog.tokens(scope="openid"))["access_token"]
    user = await posthog.http.get("/oauth/userinfo/", headers=bearer(authorized))
    assert user.json()["sub"]
    refused = await posthog.http.get("/oauth/userinfo/", headers=bearer(plain))
    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    unknown = await posthog.http.get("/oauth/userinfo/")
    assert unknown.status_code == 401
    assert unknown.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_userinfo_returns_the_claims_of_the_granted_scopes(posthog: Driver) -> None:
    token = (await posthog.tokens(scope="openid email"))["access_token"]
    user = await posthog.http.get("/oauth/userinfo/", headers=bearer(token))
    assert user.json().keys() == {"sub", "email", "email_verified"}


async def test_an_id_token_is_signed_and_names_the_user_and_the_client(posthog: Driver) -> None:
    tokens = await posthog.tokens(scope="openid profile person:read", nonce="n-1")
    openid = (await posthog.http.get("/.well-known/openid-configuration")).json()
    keys = await posthog.http.get(openid["jwks_uri"])
    assert keys.headers["Cache-Control"].startswith("public, max-age=3600")
    claims = verified_claims(tokens["id_token"], keys.text)
    user = await posthog.http.get("/oauth/userinfo/", headers=bearer(tokens["access_token"]))
    assert user.json().items() <= claims.items()
    assert user.json().keys() == {"sub", "given_name", "family_name"}
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (openid["issuer"], CLIENT_ID, "n-1")
    assert claims["exp"] - claims["iat"] == 36_000
    assert claims["auth_time"] <= claims["iat"]
    assert claims["at_hash"] == at_hash(tokens["access_token"])
    again = (await posthog.refresh(tokens["refresh_token"])).json()
    renewed = verified_claims(again["id_token"], keys.text)
    # The nonce belongs to the authorization request only.
    assert "nonce" not in renewed
    assert renewed["at_hash"] == at_hash(again["access_token"])
    assert renewed["jti"] != claims["jti"]


async def test_no_id_token_is_issued_without_the_openid_scope(posthog: Driver) -> None:
    tokens = await posthog.tokens(scope="person:read")
    assert "id_token" not in tokens
    both = await posthog.tokens(scope="openid person:read")
    fewer = await posthog.refresh(both["refresh_token"], scope="person:read")
    assert "id_token" not in fewer.json()


def verified_claims(token: str, keys: str) -> dict[str, Any]:
    """Verify the signature of a token with `keys`; return its claims."""
    verified = JWT(jwt=token, key=JWKSet.from_json(keys), algs=["RS256"], expected_type="JWS")
    claims: dict[str, Any] = json.loads(verified.claims)
    return claims


def at_hash(token: str) -> str:
    """The first half of a token's digest (OpenID Connect Core 1.0, section 3.1.3.6)."""
    return urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


async def test_a_consent_page_can_be_submitted_once() -> None:
    async with sandbox(auto_consent=False) as posthog:
        page = await posthog.http.get("/oauth/authorize/", params=authorization())
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "http://" not in page.text.replace("http://127.0.0.1:8424", "")
        request_id = page.text.split('name="request" value="')[1].split('"')[0]
        form = {"request": request_id, "project": "4242", "decision": "allow"}
        allowed = await posthog.http.post("/oauth/authorize/", data=form)
        assert allowed.status_code == 303
        assert allowed.headers["Location"].startswith(f"{REDIRECT_URI}?code=")
        assert (await posthog.exchange(callback(allowed)["code"])).status_code == 200
        assert (await posthog.http.post("/oauth/authorize/", data=form)).status_code == 400


async def test_metadata_is_served_under_each_well_known_name_to_every_origin(
    posthog: Driver,
) -> None:
    headers = {"Origin": "https://shop.example"}
    server = await posthog.http.get("/.well-known/oauth-authorization-server", headers=headers)
    openid = await posthog.http.get("/.well-known/openid-configuration", headers=headers)
    resource = await posthog.http.get("/.well-known/oauth-protected-resource", headers=headers)
    specific = {"client_id_metadata_document_supported"}
    assert {key: server.json()[key] for key in server.json().keys() - specific} == {
        key: openid.json()[key] for key in server.json().keys() - specific
    }
    assert openid.json()["subject_types_supported"] == ["public"]
    assert openid.json()["id_token_signing_alg_values_supported"] == ["RS256"]
    assert not specific & openid.json().keys()
    assert resource.json()["resource"] == server.json()["issuer"]
    assert resource.json()["bearer_methods_supported"] == ["header"]
    assert resource.json()["authorization_servers"] == [server.json()["issuer"]]
    for response in (server, openid, resource):
        assert response.headers["access-control-allow-origin"] == "*"


async def test_a_refused_bearer_token_gets_the_url_of_the_resource_metadata(
    posthog: Driver,
) -> None:
    document = f"{posthog.url}/.well-known/oauth-protected-resource"
    for headers in ({}, bearer("pha_unknown"), bearer("phx_unknown")):
        refused = await posthog.http.get(PROJECT, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{document}"'
    assert (await posthog.http.get(document)).status_code == 200
