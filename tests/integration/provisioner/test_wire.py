"""Acceptance cases 12.4: what PostHog is sent, and what its answers become."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.posthog.api import Transport
from hogsend.service.http import http_client
from services.provisioner.destination import desired
from services.provisioner.destination.errors import ProvisioningError
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.reconcile import Reconciliation
from tests.integration.harness import LOOPBACK
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import (
    SECRET,
    WEBHOOK_URL,
    WITH_SECRET,
    Driver,
    filters,
    inputs,
)
from tests.ports import free_port
from tests.posthog_recorder import SCHEMA, Recorder, serving

PROJECT = "GET /api/projects/@current/"
COLLECTION = "/api/environments/4242/hog_functions/"
LIST = f"GET {COLLECTION}?type=destination&limit=100"
OLD_URL = "https://old.example.com/v1/webhooks/posthog"
FOREIGN = {"key": "$host", "type": "event", "value": ["a"], "operator": "exact"}


def compliant(driver: Driver, id: str = "fn", **values: Any) -> None:
    driver.posthog.add(id, **{"inputs": inputs(), "filters": filters(), **values})


async def action(driver: Driver) -> str:
    answer = await driver.provision()
    assert answer.status_code == 200, answer.text
    return str(answer.json()["action"])


async def refusal(driver: Driver, status: int = 502) -> dict[str, str]:
    answer = await driver.provision()
    assert answer.status_code == status, answer.text
    body: dict[str, str] = answer.json()
    return body


async def test_case_50_without_a_secret_nothing_is_sent(posthog: Recorder) -> None:
    async with http_client(LOOPBACK) as http:
        reconciliation = Reconciliation(
            Transport(http, posthog.url, "pha_a"),
            posthog.url,
            desired.live("https://t.example.com", ""),
            InstanceProbe(http),
        )
        with pytest.raises(ProvisioningError) as refused:
            await reconciliation.project(None)
    refusal = refused.value.refusal
    assert (refusal.reason, refusal.code) == ("posthog", "missing-webhook-secret")
    assert "POSTHOG_WEBHOOK_SECRET" in (refusal.remediation or "")
    assert "--provision-only" in (refusal.remediation or "")
    assert posthog.requests == []


async def test_cases_51_and_52_the_requests_of_a_creation(driver: Driver) -> None:
    assert await action(driver) == "created"
    posthog = driver.posthog
    assert posthog.lines() == [PROJECT, LIST, f"POST {COLLECTION}"]
    assert {request.headers["authorization"] for request in posthog.requests} == {"Bearer pha_a"}
    typed = ["content-type" in request.headers for request in posthog.requests]
    assert typed == [False, False, True]
    (body,) = posthog.bodies("POST")
    assert isinstance(body.pop("description"), str)
    assert body == {
        "type": "destination",
        "name": "Hogsend ingest — identified events",
        "template_id": "template-webhook",
        "enabled": True,
        "inputs": {
            "url": {"value": WEBHOOK_URL},
            "method": {"value": "POST"},
            "body": {"value": {"event": "{event}", "person": "{person}"}},
            "headers": {
                "value": {"Content-Type": "application/json", "x-posthog-webhook-secret": SECRET}
            },
            "debug": {"value": False},
        },
        "filters": {
            "source": "events",
            "properties": [
                {"key": "$is_identified", "type": "event", "value": ["true"], "operator": "exact"}
            ],
        },
    }


async def test_case_53_a_project_without_a_key_is_not_kept(driver: Driver) -> None:
    driver.posthog.project = {"id": 4242}
    assert await action(driver) == "created"
    assert await driver.derived() is None


async def test_case_54_a_configured_project(start: Start) -> None:
    async with start(environment={**WITH_SECRET, "posthog_project_id": "77"}) as driver:
        driver.posthog.project = {"id": "77"}
        await action(driver)
    first, *others = driver.posthog.lines()
    assert first == "GET /api/projects/77/"
    assert len(others) == 2
    assert all("/api/environments/77/" in line for line in others)


async def test_case_55_a_compliant_destination_is_left_as_it_is(driver: Driver) -> None:
    compliant(driver)
    assert await action(driver) == "unchanged"
    assert driver.posthog.lines() == [PROJECT, LIST, f"GET {COLLECTION}fn/"]


async def test_case_56_a_drifted_destination_keeps_what_is_the_operators(driver: Driver) -> None:
    driver.posthog.add(
        "fn",
        inputs=inputs(OLD_URL, headers={"value": {"x-custom": "keep"}}, debug={"value": True}),
        filters={
            "source": "person-updates",
            "bytecode": ["_H", 1],
            "properties": [FOREIGN],
            "filter_test_accounts": True,
        },
    )
    assert await action(driver) == "updated"
    (patch,) = driver.posthog.bodies("PATCH")
    assert set(patch) == {"enabled", "inputs", "filters"}
    assert patch["inputs"]["headers"]["value"] == {
        "x-custom": "keep",
        "Content-Type": "application/json",
        "x-posthog-webhook-secret": SECRET,
    }
    assert patch["inputs"]["url"]["value"] == WEBHOOK_URL
    assert patch["inputs"]["debug"] == {"value": True}
    assert patch["filters"] == {
        "source": "events",
        "properties": [FOREIGN, desired.IDENTIFIED],
        "filter_test_accounts": True,
    }


async def test_case_57_a_stale_secret_is_replaced(driver: Driver) -> None:
    compliant(driver, inputs=inputs(secret="stale"))
    assert await action(driver) == "updated"
    (patch,) = driver.posthog.bodies("PATCH")
    assert patch["inputs"]["headers"]["value"]["x-posthog-webhook-secret"] == SECRET


async def test_case_58_a_disabled_destination_is_enabled(driver: Driver) -> None:
    compliant(driver, enabled=False)
    assert await action(driver) == "updated"
    assert driver.posthog.bodies("PATCH")[0]["enabled"] is True


@pytest.mark.parametrize("value", [[True], "true", True, ["true"]])
async def test_case_59_every_spelling_of_the_filter(driver: Driver, value: Any) -> None:
    entry = {**desired.IDENTIFIED, "value": value}
    compliant(driver, filters={"properties": [FOREIGN, entry]})
    assert await action(driver) == "unchanged"


@pytest.mark.parametrize("value", ["false", ["true", "false"], [], None, 1, [1]])
async def test_other_filter_values_are_drift(driver: Driver, value: Any) -> None:
    compliant(driver, filters={"properties": [{**desired.IDENTIFIED, "value": value}]})
    assert await action(driver) == "updated"


async def test_case_60_pages_and_the_likely_name_first(driver: Driver) -> None:
    driver.posthog.page_size = 1
    driver.posthog.add("slack", name="Slack alerts")
    compliant(driver, "loop", name="My hogsend loop")
    assert await action(driver) == "unchanged"
    assert driver.posthog.lines() == [
        PROJECT,
        LIST,
        f"{LIST}&offset=1",
        f"GET {COLLECTION}loop/",
    ]


async def test_case_61_a_legacy_destination_is_upgraded(driver: Driver) -> None:
    schema = [{"key": key} for key in ("url", "payload", "headers")]
    compliant(driver, inputs_schema=schema, hog="old", inputs={"url": {"value": WEBHOOK_URL}})
    assert await action(driver) == "updated"
    (patch,) = driver.posthog.bodies("PATCH")
    assert list(patch["inputs"]) == ["url", "method", "body", "headers", "debug"]
    assert "fetch(inputs.url, payload)" in patch["hog"]
    entries = patch["inputs_schema"]
    assert [entry["key"] for entry in entries] == ["url", "method", "body", "headers", "debug"]
    types = [entry["type"] for entry in entries]
    assert types == ["string", "choice", "json", "dictionary", "boolean"]
    assert [entry["required"] for entry in entries] == [True, False, False, False, False]
    assert all(entry["secret"] is False and entry["hidden"] is False for entry in entries)
    assert all(entry["label"] and entry["description"] for entry in entries)
    assert [entry.get("default") for entry in entries] == [
        None,
        "POST",
        {"event": "{event}", "person": "{person}"},
        {"Content-Type": "application/json"},
        False,
    ]
    names = [choice["value"] for choice in entries[1]["choices"]]
    assert names == ["POST", "PUT", "PATCH", "GET", "DELETE"]
    assert await action(driver) == "unchanged"


async def test_case_62_a_renamed_destination_is_adopted(driver: Driver) -> None:
    compliant(driver, name="Renamed by somebody", enabled=False)
    assert await action(driver) == "updated"
    assert not {"name", "description", "template_id", "type"} & set(
        driver.posthog.bodies("PATCH")[0]
    )


async def test_case_63_a_forbidden_list(driver: Driver) -> None:
    detail = "API key missing required scope 'hog_function:read'"
    driver.posthog.refuse("GET", "hog_functions", 403, {"detail": detail})
    body = await refusal(driver)
    assert body["error"] == "missing-scope"
    assert "403" in body["detail"]
    assert detail in body["detail"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_case_64_no_hog_functions_api(driver: Driver, method: str) -> None:
    driver.posthog.refuse(method, r"hog_functions/(\?|$)", 404)
    body = await refusal(driver)
    assert body["error"] == "unsupported-instance"
    assert "manually" in body["remediation"]
    assert WEBHOOK_URL in body["remediation"]


async def test_case_65_the_project_cannot_be_found(driver: Driver) -> None:
    driver.posthog.refuse("GET", "@current", 500, b"<h1>Server Error</h1>")
    body = await refusal(driver)
    assert body["error"] == "project-discovery-failed"
    assert "500" in body["detail"]
    assert "POSTHOG_PROJECT_ID" in body["remediation"]
    assert len(driver.posthog.requests) == 1


@pytest.mark.parametrize("project", [{}, {"id": None}, {"id": ""}, {"id": True}, [], "x", None])
async def test_a_project_without_an_id_is_not_found(driver: Driver, project: Any) -> None:
    driver.posthog.project = project
    assert (await refusal(driver))["error"] == "project-discovery-failed"


async def test_case_66_a_refused_bearer(driver: Driver) -> None:
    driver.posthog.refuse("GET", "@current", 401)
    assert (await refusal(driver))["error"] == "unauthorized"


@pytest.mark.parametrize("answered", [{}, {"id": None}, b"", b"not json", []])
async def test_case_67_a_creation_without_an_id(driver: Driver, answered: Any) -> None:
    driver.posthog.refuse("POST", "hog_functions", 201, answered)
    assert (await refusal(driver))["error"] == "api-error"


async def test_case_68_twice_in_a_row(driver: Driver) -> None:
    assert [await action(driver), await action(driver)] == ["created", "unchanged"]
    assert len(driver.posthog.bodies("POST")) == 1


async def test_case_69_a_rotated_secret(start: Start) -> None:
    async with start() as driver:
        driver.posthog.project = {"id": 4242}
        actions = []
        for secret in ("first", "second", "second"):
            stored = DerivedPayload(webhook_secret=secret)
            await driver.credentials.credentials.put_derived("posthog", stored)
            actions.append(await action(driver))
    assert actions == ["created", "updated", "unchanged"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "hog_functions/fn/", 404),
        ("GET", "hog_functions/fn/", 500),
        ("PATCH", "hog_functions/fn/", 404),
        ("PATCH", "hog_functions/fn/", 400),
        ("GET", r"hog_functions/\?", 429),
    ],
)
async def test_everything_else_is_an_api_error(
    driver: Driver, method: str, path: str, status: int
) -> None:
    compliant(driver, enabled=False)
    driver.posthog.refuse(method, path, status, {"detail": "no"})
    body = await refusal(driver)
    assert body["error"] == "api-error"
    assert str(status) in body["detail"]


async def test_a_next_page_that_is_no_url(driver: Driver) -> None:
    page = {"results": [], "next": "https://[bad"}
    driver.posthog.refuse("GET", r"hog_functions/\?", 200, page)
    assert (await refusal(driver))["error"] == "api-error"


async def test_a_posthog_that_is_away(start: Start) -> None:
    unreachable = f"http://127.0.0.1:{free_port()}"
    async with start(environment={**WITH_SECRET, "posthog_private_host": unreachable}) as driver:
        body = await refusal(driver)
    assert body["error"] == "project-discovery-failed"
    assert "cannot be reached" in body["detail"]


async def test_a_long_answer_is_cut(driver: Driver) -> None:
    driver.posthog.refuse("GET", "@current", 500, b"x" * 5000)
    detail = (await refusal(driver))["detail"]
    assert "x" * 200 + "…" in detail
    assert "x" * 201 not in detail


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_the_bearer_follows_no_redirect(start: Start, status: int) -> None:
    elsewhere = Recorder()
    async with serving(elsewhere) as other, start(environment=WITH_SECRET) as driver:
        driver.posthog.refuse(".*", "/api/", status, b"", location=f"{other}/api/projects/1/")
        body = await refusal(driver)
    assert body["error"] == "project-discovery-failed"
    assert str(status) in body["detail"]
    assert elsewhere.requests == []


async def test_the_next_page_is_asked_for_on_our_own_host(driver: Driver) -> None:
    elsewhere = Recorder()
    async with serving(elsewhere) as other:
        page = {"results": [], "next": f"{other}//evil.example/x?limit=100&offset=100"}
        driver.posthog.refuse("GET", r"hog_functions/\?", 200, page)
        driver.posthog.refuse("GET", "evil", 200, {"results": []})
        assert await action(driver) == "created"
    assert elsewhere.requests == []
    assert "GET /evil.example/x?limit=100&offset=100" in driver.posthog.lines()


async def test_a_path_prefix_on_the_private_host_is_kept(start: Start, posthog: Recorder) -> None:
    prefix = f"{posthog.url}/ph/"
    posthog.refuse("GET", "/ph/api/projects/", 200, {"id": 1})
    again = {"results": [], "next": "https://x.example/ph/api/environments/1/hog_functions/?p=2"}
    posthog.refuse("GET", r"^/ph/api/environments/1/hog_functions/\?type", 200, again)
    posthog.refuse("POST", "^/ph/api/environments/1/hog_functions/$", 201, {"id": "fn"})
    async with start(environment={**WITH_SECRET, "posthog_private_host": prefix}) as driver:
        answer = await driver.provision()
    assert answer.status_code == 200, answer.text
    assert answer.json()["dashboardUrl"].startswith(f"{posthog.url}/ph/project/1/")
    assert "GET /ph/api/environments/1/hog_functions/?p=2" in posthog.lines()


async def test_at_most_twenty_pages_and_twenty_five_probes(driver: Driver) -> None:
    driver.posthog.page_size = 1
    for number in range(30):
        driver.posthog.add(f"fn{number}", name="Slack")
    assert await action(driver) == "created"
    lines = driver.posthog.lines()
    assert len([line for line in lines if line.startswith(LIST)]) == 20
    driver.posthog.page_size = 100
    driver.posthog.requests.clear()
    await action(driver)
    details = [line for line in driver.posthog.lines() if line.startswith(f"GET {COLLECTION}fn")]
    assert len(details) <= 25


async def test_odd_entries_are_passed_over(driver: Driver) -> None:
    entries = [
        None,
        7,
        {"name": "no id"},
        {"id": None, "name": "hogsend"},
        {"id": "t", "type": "transformation", "name": "hogsend"},
        {"id": "fn", "name": None},
    ]
    compliant(driver)
    driver.posthog.refuse("GET", r"hog_functions/\?", 200, {"results": entries, "next": 3})
    assert await action(driver) == "unchanged"


@pytest.mark.parametrize(
    "odd",
    [
        {"inputs": None, "filters": None, "inputs_schema": None},
        {"inputs": {"url": "x", "headers": {"secret": True}}},
        {"inputs": {"url": {"value": 7}}},
        {"inputs": {"url": {"value": "https://[bad/v1/webhooks/posthog"}}},
        {"inputs": {"url": {"value": "/v1/webhooks/posthog"}}},
        {"inputs": {"url": {"value": f"{WEBHOOK_URL}/more"}}},
    ],
)
async def test_odd_destinations_are_no_match(driver: Driver, odd: dict[str, Any]) -> None:
    driver.posthog.add("odd", **odd)
    assert await action(driver) == "created"


async def test_odd_inputs_of_a_match_are_replaced(driver: Driver) -> None:
    driver.posthog.add(
        "fn",
        inputs={"url": {"value": WEBHOOK_URL}, "headers": {"secret": True}, "debug": None},
        filters=None,
        inputs_schema=[*SCHEMA, None, 3],
    )
    assert await action(driver) == "updated"
    assert await action(driver) == "unchanged"


async def test_another_spelling_of_our_headers_is_replaced(driver: Driver) -> None:
    headers = {"value": {"X-PostHog-Webhook-Secret": "stale", "content-type": "text/plain"}}
    compliant(driver, inputs=inputs(headers=headers))
    assert await action(driver) == "updated"
    sent = driver.posthog.bodies("PATCH")[0]["inputs"]["headers"]["value"]
    assert sent == {"Content-Type": "application/json", "x-posthog-webhook-secret": SECRET}


@pytest.mark.parametrize(
    "detail",
    [
        "The Data Pipelines addon is required for this template.",
        "The Data Pipelines addon is required to create custom functions. Please upgrade.",
        "Data pipelines add-on is required for enabling new destinations.",
    ],
)
async def test_a_plan_without_data_pipelines_is_recognised(driver: Driver, detail: str) -> None:
    said = {"type": "validation_error", "attr": "template_id", "detail": detail}
    driver.posthog.refuse("POST", "hog_functions", 400, said)
    body = await refusal(driver)
    assert body["error"] == "api-error"
    assert "plan" in body["detail"]
    assert detail in body["detail"]
    for named in (
        "data pipelines add-on",
        "manually",
        f"POST to {WEBHOOK_URL}",
        "x-posthog-webhook-secret",
        "POSTHOG_WEBHOOK_SECRET",
        '{"event":"{event}","person":"{person}"}',
    ):
        assert named in body["remediation"]
    assert SECRET not in str(body)


async def test_another_bad_template_is_not_taken_for_a_plan(driver: Driver) -> None:
    said = {"attr": "template_id", "detail": "No template found for id 'template-webhook'"}
    driver.posthog.refuse("POST", "hog_functions", 400, said)
    assert "add-on" not in (await refusal(driver))["remediation"]


async def test_a_cookie_is_not_sent_back(driver: Driver) -> None:
    driver.posthog.refuse("GET", "@current", 200, {"id": 4242}, **{"set-cookie": "sessionid=x"})
    await action(driver)
    assert not any("cookie" in request.headers for request in driver.posthog.requests)
