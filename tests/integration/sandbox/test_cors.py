"""CORS: which requests a browser allows to pages of other origins."""

from __future__ import annotations

import pytest

from tests.integration.sandbox.driver import Driver, bearer

ORIGIN = "https://shop.example"


@pytest.mark.parametrize("path", ["/e/", "/i/v0/e/", "/batch/", "/flags/?v=2", "/decide/"])
async def test_capture_and_flags_allow_any_origin_and_the_requested_headers(
    posthog: Driver, path: str
) -> None:
    requested = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-funky",
    }
    preflight = await posthog.http.options(path, headers=requested)
    assert (preflight.status_code, preflight.content) == (200, b"")
    assert preflight.headers["access-control-allow-headers"] == "content-type, x-funky"
    assert preflight.headers["access-control-allow-methods"] == "GET,POST,OPTIONS"
    # Error responses have the headers too, so that a page can read the error.
    refused = await posthog.http.post(path, json={}, headers={"Origin": ORIGIN})
    assert refused.status_code >= 400
    for response in (preflight, refused):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "origin" in response.headers["vary"]


async def test_the_api_allows_every_origin_without_credentials(posthog: Driver) -> None:
    requested = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    preflight = await posthog.http.options("/api/projects/@current/", headers=requested)
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    read = bearer(posthog.instance.options.personal_key) | {"Origin": ORIGIN}
    project = await posthog.http.get("/api/projects/@current/", headers=read)
    assert project.status_code == 200
    for response in (preflight, project):
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_cors_headers_are_absent_without_an_origin_and_on_routes_of_the_sandbox(
    posthog: Driver,
) -> None:
    for path, headers in (("/e/", {}), ("/_sandbox/state", {"Origin": ORIGIN})):
        response = await posthog.http.get(path, headers=headers)
        assert "access-control-allow-origin" not in response.headers


async def test_a_beacon_gets_a_response_without_a_body(posthog: Driver) -> None:
    event = {"api_key": posthog.instance.options.project_key, "event": "e", "distinct_id": "u"}
    response = await posthog.http.post("/e/?beacon=1", json=event)
    assert (response.status_code, response.content) == (204, b"")
    assert len((await posthog.state())["events"]) == 1


async def test_the_configuration_of_posthog_js_is_served(posthog: Driver) -> None:
    key = posthog.instance.options.project_key
    config = await posthog.http.get(f"/array/{key}/config")
    assert config.json()["supportedCompression"] == ["gzip", "gzip-js"]
    assert (await posthog.http.get(f"/array/{key}/config.js")).text.count(key) == 2
    assert (await posthog.http.get("/array/phc_other/config")).status_code == 404
    assert (await posthog.http.get("/static/surveys.js?v=1")).content == b""
    # The sandbox does not contain the library, and must not serve an empty file for it.
    assert (await posthog.http.get("/static/array.js")).status_code == 404


async def test_unused_products_return_empty_lists(posthog: Driver) -> None:
    key, origin = posthog.instance.options.project_key, {"Origin": ORIGIN}
    for name, empty in (
        ("surveys", {"surveys": [], "survey_config": None}),
        ("early_access_features", {"earlyAccessFeatures": []}),
        ("web_experiments", {"experiments": []}),
        ("product_tours", {"product_tours": []}),
    ):
        response = await posthog.http.get(f"/api/{name}/?token={key}", headers=origin)
        assert (response.json(), response.headers["access-control-allow-origin"]) == (empty, "*")
        for query, code in (("", "missing_api_key"), ("?token=phc_x", "invalid_api_key")):
            refused = await posthog.http.get(f"/api/{name}/{query}")
            assert (refused.status_code, refused.json()["code"]) == (401, code)
    recorded = await posthog.http.post("/s/?compression=gzip-js", content=b"x", headers=origin)
    assert (recorded.status_code, recorded.json()) == (200, {"status": "Ok"})
    assert recorded.headers["access-control-allow-origin"] == ORIGIN
    for name in ("logs", "metrics", "traces"):
        path = f"/i/v1/{name}"
        by_query = await posthog.http.post(f"{path}?token={key}", json={}, headers=origin)
        by_bearer = await posthog.http.post(path, json={}, headers=bearer(key) | origin)
        for sent in (by_query, by_bearer):
            assert (sent.status_code, sent.json()) == (200, {})
            assert sent.headers["access-control-allow-origin"] == ORIGIN
        assert (await posthog.http.post(f"{path}?token=phc_x")).status_code == 401
    assert (await posthog.state())["events"] == []
