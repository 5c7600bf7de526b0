"""What a browser lets pages of other origins do."""

from __future__ import annotations

import pytest

from tests.integration.sandbox.driver import Driver, bearer

ORIGIN = "https://shop.example"


@pytest.mark.parametrize("path", ["/e/", "/i/v0/e/", "/batch/", "/flags/?v=2", "/decide/"])
async def test_capture_and_flags_allow_what_is_asked_for(posthog: Driver, path: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-funky",
    }
    before = await posthog.http.options(path, headers=asked)
    assert (before.status_code, before.content) == (200, b"")
    assert before.headers["access-control-allow-headers"] == "content-type, x-funky"
    assert before.headers["access-control-allow-methods"] == "GET,POST,OPTIONS"
    # A refused request has them, too: a page must be able to read why.
    refused = await posthog.http.post(path, json={}, headers={"Origin": ORIGIN})
    assert refused.status_code >= 400
    for answer in (before, refused):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "origin" in answer.headers["vary"]


async def test_the_api_allows_every_origin_without_credentials(posthog: Driver) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    before = await posthog.http.options("/api/projects/@current/", headers=asked)
    assert before.status_code == 200
    assert "authorization" in before.headers["access-control-allow-headers"]
    read = bearer(posthog.instance.options.personal_key) | {"Origin": ORIGIN}
    project = await posthog.http.get("/api/projects/@current/", headers=read)
    assert project.status_code == 200
    for answer in (before, project):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_without_an_origin_and_for_pages_to_look_at_nothing_is_allowed(
    posthog: Driver,
) -> None:
    for path, headers in (("/e/", {}), ("/_sandbox/state", {"Origin": ORIGIN})):
        answer = await posthog.http.get(path, headers=headers)
        assert "access-control-allow-origin" not in answer.headers


async def test_a_page_that_is_left_is_answered_without_a_body(posthog: Driver) -> None:
    event = {"api_key": posthog.instance.options.project_key, "event": "e", "distinct_id": "u"}
    answer = await posthog.http.post("/e/?beacon=1", json=event)
    assert (answer.status_code, answer.content) == (204, b"")
    assert len((await posthog.state())["events"]) == 1


async def test_posthog_js_finds_its_configuration(posthog: Driver) -> None:
    key = posthog.instance.options.project_key
    found = await posthog.http.get(f"/array/{key}/config")
    assert found.json()["supportedCompression"] == ["gzip", "gzip-js"]
    assert (await posthog.http.get(f"/array/{key}/config.js")).text.count(key) == 2
    assert (await posthog.http.get("/array/phc_other/config")).status_code == 404
    assert (await posthog.http.get("/static/surveys.js?v=1")).content == b""
    # The library itself is not here, and must not seem to be.
    assert (await posthog.http.get("/static/array.js")).status_code == 404


async def test_products_that_are_not_used_are_answered_as_empty(posthog: Driver) -> None:
    key, origin = posthog.instance.options.project_key, {"Origin": ORIGIN}
    for name, empty in (
        ("surveys", {"surveys": [], "survey_config": None}),
        ("early_access_features", {"earlyAccessFeatures": []}),
        ("web_experiments", {"experiments": []}),
        ("product_tours", {"product_tours": []}),
    ):
        answer = await posthog.http.get(f"/api/{name}/?token={key}", headers=origin)
        assert (answer.json(), answer.headers["access-control-allow-origin"]) == (empty, "*")
        for query, code in (("", "missing_api_key"), ("?token=phc_x", "invalid_api_key")):
            refused = await posthog.http.get(f"/api/{name}/{query}")
            assert (refused.status_code, refused.json()["code"]) == (401, code)
    recorded = await posthog.http.post("/s/?compression=gzip-js", content=b"x", headers=origin)
    assert (recorded.status_code, recorded.json()) == (200, {"status": "Ok"})
    assert recorded.headers["access-control-allow-origin"] == ORIGIN
    assert (await posthog.state())["events"] == []
