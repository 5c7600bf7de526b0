"""The OAuth server against contract section 3 and django-oauth-toolkit's rules."""

from __future__ import annotations

from collections.abc import Awaitable

import httpx
import pytest

from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES, missing
from tests.integration.sandbox.driver import (
    REDIRECT_URI,
    Driver,
    authorization,
    bearer,
    callback,
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
            allowed = {
                await _status(posthog, "GET", address),
                await _status(posthog, "POST", address),
            }
            assert 404 not in allowed, name


async def _status(posthog: Driver, method: str, address: str) -> int:
    return (await posthog.http.request(method, address)).status_code


async def test_a_whole_flow_gives_tokens_for_one_project(posthog: Driver) -> None:
    answer = await posthog.exchange(await posthog.code())
    tokens = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert tokens["access_token"].startswith("pha_")
    assert tokens["refresh_token"].startswith("phr_")
    assert tokens["expires_in"] == 3600
    assert tokens["token_type"] == "Bearer"
    assert tokens["scoped_teams"] == [4242]
    assert tokens["scoped_organizations"] == []
    project = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
    assert project.json()["id"] == 4242
    assert project.json()["api_token"] == posthog.instance.options.project_key


async def test_both_halves_of_a_scope_fold_into_write(posthog: Driver) -> None:
    granted = (await posthog.tokens())["scope"].split()
    assert "person:write" in granted
    assert "person:read" not in granted
    assert missing(granted) == []


async def test_unknown_scopes_are_dropped_and_no_scope_means_all(posthog: Driver) -> None:
    assert (await posthog.tokens(scope="person:read no_such:read"))["scope"] == "person:read"
    assert "hog_function:write" in (await posthog.tokens(scope=""))["scope"].split()


async def test_without_an_access_level_the_grant_is_not_limited(posthog: Driver) -> None:
    assert (await posthog.tokens(required_access_level=""))["scoped_teams"] == []
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
async def test_a_wrong_request_is_refused_through_the_redirect(
    posthog: Driver, changes: dict[str, str | None], error: str
) -> None:
    answer = await posthog.http.get("/oauth/authorize/", params=authorization(**changes))
    assert callback(answer)["error"] == error
    assert callback(answer)["state"] == "a-state"


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
async def test_a_wrong_client_or_redirect_is_never_redirected(
    posthog: Driver, changes: dict[str, str | None]
) -> None:
    answer = await posthog.http.get("/oauth/authorize/", params=authorization(**changes))
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "Location" not in answer.headers


async def test_on_loopback_any_port_will_do(posthog: Driver) -> None:
    elsewhere = "http://127.0.0.1:59999/callback"
    answer = await posthog.http.get(
        "/oauth/authorize/", params=authorization(redirect_uri=elsewhere)
    )
    assert answer.headers["Location"].startswith(f"{elsewhere}?code=")


async def test_a_wrong_verifier_is_refused_and_the_code_stays_valid(posthog: Driver) -> None:
    code = await posthog.code()
    refused = await posthog.exchange(code, code_verifier="x" * 43)
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})
    assert (await posthog.exchange(code)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"code": "unknown"}, 400, "invalid_grant"),
        ({"code": ""}, 400, "invalid_request"),
        ({"code_verifier": ""}, 400, "invalid_request"),
        ({"client_id": "https://other.example.com/client.json"}, 400, "invalid_grant"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"redirect_uri": "http://127.0.0.1:8423/callback"}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_exchange_is_refused(
    posthog: Driver, changes: dict[str, str], status: int, error: str
) -> None:
    answer = await posthog.exchange(**{"code": await posthog.code(), **changes})
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_a_code_works_once(posthog: Driver) -> None:
    code = await posthog.code()
    assert (await posthog.exchange(code)).status_code == 200
    assert (await posthog.exchange(code)).json() == {"error": "invalid_grant"}


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
    broken = await posthog.http.post(
        "/oauth/token/", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (broken.status_code, broken.json()["error"]) == (400, "invalid_request")


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


async def test_a_refresh_rotates_and_revokes_the_earlier_access_token(posthog: Driver) -> None:
    first = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    assert second["scoped_teams"] == [4242]
    old = await posthog.http.get(PROJECT, headers=bearer(first["access_token"]))
    new = await posthog.http.get(PROJECT, headers=bearer(second["access_token"]))
    assert (old.status_code, new.status_code) == (401, 200)


async def test_within_the_grace_period_the_same_successor_is_given_again(posthog: Driver) -> None:
    first = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    await posthog.advance(119)
    again = (await posthog.refresh(first["refresh_token"])).json()
    assert again["access_token"] == second["access_token"]
    assert again["refresh_token"] == second["refresh_token"]
    counts = (await posthog.state())["oauth"]
    assert (counts["refreshes"], counts["replays"], counts["families_revoked"]) == (1, 1, 0)


async def test_after_the_grace_period_the_whole_family_is_revoked(posthog: Driver) -> None:
    first = await posthog.tokens()
    other = await posthog.tokens()
    second = (await posthog.refresh(first["refresh_token"])).json()
    await posthog.advance(121)
    assert (await posthog.refresh(first["refresh_token"])).json() == {"error": "invalid_grant"}
    used = await posthog.http.get(PROJECT, headers=bearer(second["access_token"]))
    assert used.status_code == 401
    assert (await posthog.state())["oauth"]["families_revoked"] == 1
    # Another connection is another family.
    assert (await posthog.refresh(other["refresh_token"])).status_code == 200
    await posthog.advance(121)
    assert (await posthog.refresh(second["refresh_token"])).json() == {"error": "invalid_grant"}


async def test_the_grace_period_is_an_option() -> None:
    async with sandbox(grace_seconds=0) as posthog:
        first = await posthog.tokens()
        await posthog.refresh(first["refresh_token"])
        assert (await posthog.refresh(first["refresh_token"])).status_code == 400


async def test_without_rotation_the_refresh_token_stays() -> None:
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
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": (await posthog.tokens())["refresh_token"],
        "client_id": "https://other.example.com/client.json",
    }
    answer = await posthog.http.post("/oauth/token/", data=fields)
    assert answer.json() == {"error": "invalid_grant"}


async def test_revoking_a_refresh_token_revokes_its_access_token(posthog: Driver) -> None:
    tokens = await posthog.tokens()
    fields = {"token": tokens["refresh_token"], "client_id": CLIENT_ID}
    assert (await posthog.http.post("/oauth/revoke/", data=fields)).status_code == 200
    assert (await posthog.http.post("/oauth/revoke/", data=fields)).status_code == 200
    used = await posthog.http.get(PROJECT, headers=bearer(tokens["access_token"]))
    assert used.status_code == 401
    assert (await posthog.refresh(tokens["refresh_token"])).status_code == 400


async def test_introspection_and_userinfo_need_their_scopes(posthog: Driver) -> None:
    plain = await posthog.tokens()
    asking = await posthog.tokens(scope="introspection openid")
    fields = {"token": plain["access_token"]}

    def introspect(tokens: dict[str, str]) -> Awaitable[httpx.Response]:
        headers = bearer(tokens["access_token"])
        return posthog.http.post("/oauth/introspect/", data=fields, headers=headers)

    assert (await introspect(plain)).status_code == 403
    found = (await introspect(asking)).json()
    assert found["active"] is True
    assert found["client_id"] == CLIENT_ID
    await posthog.http.post(
        "/oauth/revoke/", data={"token": plain["access_token"], "client_id": CLIENT_ID}
    )
    assert (await introspect(asking)).json() == {"active": False}
    user = await posthog.http.get("/oauth/userinfo/", headers=bearer(asking["access_token"]))
    assert user.json()["sub"]
    assert (await posthog.http.get("/oauth/userinfo/")).status_code == 401


async def test_a_consent_page_works_once() -> None:
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


async def test_metadata_is_found_under_every_name_and_from_every_origin(posthog: Driver) -> None:
    read = {"Origin": "https://shop.example"}
    server = await posthog.http.get("/.well-known/oauth-authorization-server", headers=read)
    openid = await posthog.http.get("/.well-known/openid-configuration", headers=read)
    resource = await posthog.http.get("/.well-known/oauth-protected-resource", headers=read)
    assert openid.json() == server.json()
    assert resource.json()["authorization_servers"] == [server.json()["issuer"]]
    for answer in (server, openid, resource):
        assert answer.headers["access-control-allow-origin"] == "*"
