"""Hog functions over HTTP, as in contract section 2 and PostHog's posthog/api/hog_function.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.sandbox.driver import FUNCTIONS, Driver, bearer, function, sandbox


async def test_a_function_is_created_read_changed_and_deleted(posthog: Driver) -> None:
    created = await posthog.create()
    address = f"{FUNCTIONS}{created['id']}/"
    read = (await posthog.http.get(address, headers=posthog.key)).json()
    assert read["inputs"]["url"]["value"] == "https://t.example.com/v1/webhooks/posthog"
    assert read["inputs"]["body"]["value"] == {"event": "{event}", "person": "{person}"}
    assert [schema["key"] for schema in read["inputs_schema"]] == [
        "url",
        "method",
        "body",
        "headers",
        "debug",
        "secret_headers",
        "signing_secret",
    ]
    assert read["template"]["id"] == "template-webhook"
    assert "template_id" not in read
    changed = await posthog.http.patch(
        address, json={"enabled": False, "name": "Renamed"}, headers=posthog.key
    )
    assert changed.status_code == 200
    assert (changed.json()["enabled"], changed.json()["name"]) == (False, "Renamed")
    assert changed.json()["inputs"] == read["inputs"]
    refused = await posthog.http.delete(address, headers=posthog.key)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    await posthog.http.patch(address, json={"deleted": True}, headers=posthog.key)
    assert (await posthog.http.get(address, headers=posthog.key)).status_code == 404
    listed = await posthog.http.get(FUNCTIONS, headers=posthog.key)
    assert listed.json()["results"] == []
    restored = await posthog.http.patch(address, json={"deleted": False}, headers=posthog.key)
    assert restored.status_code == 200


async def test_a_function_and_its_project_are_read_under_the_id_of_the_project(
    posthog: Driver,
) -> None:
    created = await posthog.create()
    address = f"/api/projects/4242/hog_functions/{created['id']}/"
    assert (await posthog.http.get(address, headers=posthog.key)).json()["id"] == created["id"]
    assert (await posthog.http.get("/api/projects/4242/", headers=posthog.key)).json()["id"] == 4242


async def test_the_list_is_paginated_and_omits_inputs(posthog: Driver) -> None:
    ids = [(await posthog.create(name=f"number {number}"))["id"] for number in range(5)]
    listed: list[dict[str, Any]] = []
    address: str | None = f"{FUNCTIONS}?type=destination&limit=2"
    pages = 0
    while address:
        page = (await posthog.http.get(address, headers=posthog.key)).json()
        listed += page["results"]
        address = page["next"]
        pages += 1
        assert page["count"] == 5
        assert (page["previous"] is None) == (pages == 1)
        assert address is None or address.startswith(f"{posthog.url}{FUNCTIONS}?")
        assert address is None or "type=destination" in address
    assert pages == 3
    assert [item["id"] for item in listed] == ids
    assert all("inputs" not in item and "inputs_schema" not in item for item in listed)


async def test_the_list_is_filtered_by_type(posthog: Driver) -> None:
    destination = (await posthog.create())["id"]
    transformation = (await posthog.create(type="transformation"))["id"]

    async def listed(query: str) -> list[str]:
        response = await posthog.http.get(FUNCTIONS + query, headers=posthog.key)
        return [item["id"] for item in response.json()["results"]]

    assert await listed("") == [destination]
    assert await listed("?type=transformation") == [transformation]
    for name in ("type", "types"):
        both = await listed(f"?{name}=destination,transformation")
        assert both == [destination, transformation]
    assert await listed("?type=site_app") == []


async def test_a_full_list_has_the_inputs_without_secret_values(posthog: Driver) -> None:
    created = await posthog.create(signing_secret="whsec_x")
    response = await posthog.http.get(f"{FUNCTIONS}?full=true", headers=posthog.key)
    assert response.json()["results"] == [created]
    assert created["inputs"]["signing_secret"] == {"secret": True}


async def test_a_change_of_inputs_replaces_all_of_them(posthog: Driver) -> None:
    created = await posthog.create()
    address = f"{FUNCTIONS}{created['id']}/"
    inputs = {"url": {"value": "https://other.example.com/"}}
    changed = await posthog.http.patch(address, json={"inputs": inputs}, headers=posthog.key)
    assert changed.json()["inputs"]["url"]["value"] == "https://other.example.com/"
    assert "value" not in changed.json()["inputs"]["headers"]


async def test_a_secret_input_is_not_returned_and_is_kept_until_it_is_replaced(
    posthog: Driver,
) -> None:
    schema = [
        {"key": "url", "type": "string", "required": True},
        {"key": "token", "type": "string", "secret": True, "required": True},
    ]
    inputs = {"url": {"value": "http://127.0.0.1:1/{inputs}"}, "token": {"value": "very-secret"}}
    created = await posthog.create(inputs_schema=schema, inputs=inputs, hog="return 1")
    assert created["inputs"]["token"] == {"secret": True}
    address = f"{FUNCTIONS}{created['id']}/"
    patched = await posthog.http.patch(
        address, json={"inputs": created["inputs"]}, headers=posthog.key
    )
    assert patched.json()["inputs"]["token"] == {"secret": True}
    stored = posthog.instance.functions.get(created["id"]).inputs["token"]
    assert stored.value == "very-secret"
    assert "very-secret" not in (await posthog.http.get("/_sandbox/state")).text
    without_token = {"url": {"value": "http://127.0.0.1:1/x"}}
    patched = await posthog.http.patch(address, json={"inputs": without_token}, headers=posthog.key)
    assert patched.json()["inputs"]["token"] == {"secret": True}
    changed = {**without_token, "token": {"secret": True, "value": "other"}}
    await posthog.http.patch(address, json={"inputs": changed}, headers=posthog.key)
    assert posthog.instance.functions.get(created["id"]).inputs["token"].value == "other"
    new = {"inputs_schema": schema, "inputs": {**inputs, "token": {"secret": True}}}
    body = {"type": "destination", "name": "n", "hog": "return 1", **new}
    refused = await posthog.http.post(FUNCTIONS, json=body, headers=posthog.key)
    assert (refused.status_code, refused.json()["attr"]) == (400, "inputs__token")


async def test_the_bytecode_of_filters_is_always_compiled_by_the_server(posthog: Driver) -> None:
    sent = {"source": "events", "properties": [{"key": "a", "value": ["b"]}], "bytecode": ["own"]}
    created = await posthog.create(filters=sent)
    assert created["filters"]["properties"] == sent["properties"]
    assert created["filters"]["bytecode"][0] == "_H"
    address = f"{FUNCTIONS}{created['id']}/"
    changed = await posthog.http.patch(address, json={"filters": {}}, headers=posthog.key)
    assert list(changed.json()["filters"]) == ["bytecode"]


@pytest.mark.parametrize(
    ("changes", "code", "attr"),
    [
        ({"type": None}, "invalid_choice", "type"),
        ({"template_id": "template-nothing"}, "invalid_input", "template_id"),
        ({"inputs": {}}, "invalid_input", "inputs__url"),
        ({"inputs": {"url": {"value": 1}}}, "invalid_input", "inputs__url"),
        ({"inputs": {"url": "x"}}, "invalid_input", "inputs__url"),
        ({"inputs": []}, "invalid_input", "inputs__url"),
        ({"inputs": ["x"]}, "invalid_input", "inputs"),
        (
            {"inputs": {"url": {"value": "x"}, "headers": {"value": "x"}}},
            "invalid_input",
            "inputs__headers",
        ),
        (
            {"inputs": {"url": {"value": "x"}, "debug": {"value": "x"}}},
            "invalid_input",
            "inputs__debug",
        ),
        ({"filters": []}, "invalid_input", "filters"),
        ({"filters": {"source": "elsewhere"}}, "invalid_choice", "filters__source"),
        ({"filters": {"properties": "x"}}, "not_a_list", "filters__properties"),
        ({"inputs_schema": "x"}, "invalid_input", "inputs_schema"),
        ({"enabled": "perhaps"}, "invalid_input", "enabled"),
        ({"name": 1}, "invalid_input", "name"),
        ({"template_id": None}, "invalid_input", "hog"),
    ],
)
async def test_an_invalid_field_is_refused_by_its_name(
    posthog: Driver, changes: dict[str, Any], code: str, attr: str
) -> None:
    response = await posthog.http.post(FUNCTIONS, json=function(**changes), headers=posthog.key)
    assert response.status_code == 400, response.text
    assert response.json()["type"] == "validation_error"
    assert (response.json()["code"], response.json()["attr"]) == (code, attr)
    assert posthog.instance.functions.all() == []


async def test_the_type_of_a_function_cannot_be_changed(posthog: Driver) -> None:
    created = await posthog.create()
    response = await posthog.http.patch(
        f"{FUNCTIONS}{created['id']}/", json={"type": "transformation"}, headers=posthog.key
    )
    assert (response.status_code, response.json()["attr"]) == (400, "type")


async def test_a_body_that_is_not_json_is_refused_as_a_parse_error(posthog: Driver) -> None:
    response = await posthog.http.post(FUNCTIONS, content=b"{", headers=posthog.key)
    assert (response.status_code, response.json()["code"]) == (400, "parse_error")


async def test_a_webhook_cannot_be_created_without_the_addon(posthog: Driver) -> None:
    created = await posthog.create()
    await posthog.http.put("/_sandbox/plan", json={"data_pipelines": False})
    refused = await posthog.http.post(FUNCTIONS, json=function(), headers=posthog.key)
    assert refused.status_code == 400
    assert refused.json()["attr"] == "template_id"
    assert refused.json()["code"] == "invalid_input"
    assert "addon is required" in refused.json()["detail"]
    custom = function(template_id=None, hog="return 1")
    assert (await posthog.http.post(FUNCTIONS, json=custom, headers=posthog.key)).json()[
        "attr"
    ] == "template_id"
    # An existing function can be changed, but its program stays that of the template.
    changed = await posthog.http.patch(
        f"{FUNCTIONS}{created['id']}/", json={"enabled": False, "hog": "own"}, headers=posthog.key
    )
    assert changed.status_code == 200
    assert changed.json()["hog"] != "own"


async def test_a_missing_scope_is_refused_with_the_error_of_posthog() -> None:
    async with sandbox(personal_key_scopes=("hog_function:read", "project:write")) as posthog:
        assert (await posthog.http.get(FUNCTIONS, headers=posthog.key)).status_code == 200
        # A write scope implies its read scope.
        project = await posthog.http.get("/api/projects/@current/", headers=posthog.key)
        assert project.status_code == 200
        refused = await posthog.http.post(FUNCTIONS, json=function(), headers=posthog.key)
        assert refused.status_code == 403
        assert refused.json() == {
            "type": "authentication_error",
            "code": "permission_denied",
            "detail": "API key missing required scope 'hog_function:write'",
            "attr": None,
        }


async def test_requests_without_access_get_the_errors_of_posthog(posthog: Driver) -> None:
    anonymous = await posthog.http.get(FUNCTIONS)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "not_authenticated")
    assert anonymous.headers["WWW-Authenticate"].startswith("Bearer resource_metadata=")
    for token in ("phx_wrong", "pha_wrong"):
        wrong = await posthog.http.get(FUNCTIONS, headers=bearer(token))
        assert (wrong.status_code, wrong.json()["code"]) == (401, "authentication_failed")
    elsewhere = await posthog.http.get("/api/projects/1/hog_functions/", headers=posthog.key)
    assert (elsewhere.status_code, elsewhere.json()["detail"]) == (404, "Project not found.")
    missing = await posthog.http.get(f"{FUNCTIONS}unknown/", headers=posthog.key)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    nowhere = await posthog.http.get("/api/nothing/")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    method = await posthog.http.put(FUNCTIONS, headers=posthog.key)
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")


async def test_an_existing_function_keeps_its_program_when_the_template_adds_signing() -> None:
    async with sandbox(webhook_signing=False) as posthog:
        created = await posthog.create(signing_secret="whsec_x")
        assert "signing_secret" not in created["inputs"]
        await posthog.http.put("/_sandbox/webhooks", json={"signing": True})
        address = f"{FUNCTIONS}{created['id']}/"
        later = (await posthog.http.get(address, headers=posthog.key)).json()
        assert (later["hog"], later["inputs_schema"]) == (created["hog"], created["inputs_schema"])
        template = later["template"]
        assert template["code"] != later["hog"]
        assert template["inputs_schema"][-1]["key"] == "signing_secret"
        assert template["inputs_schema"][-1]["secret"] is True
        body = {
            "hog": template["code"],
            "inputs_schema": template["inputs_schema"],
            "inputs": {**created["inputs"], "signing_secret": {"value": "whsec_x"}},
        }
        changed = (await posthog.http.patch(address, json=body, headers=posthog.key)).json()
        assert changed["inputs"]["signing_secret"] == {"secret": True}
