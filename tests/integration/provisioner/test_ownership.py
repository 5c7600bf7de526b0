"""Whose destination it is, when several Hogsend instances may share one PostHog project.

Contract 2.2 takes the first destination whose path is ours; these rules are stricter, and win over
it: two instances would otherwise repoint each other's destination for ever.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import (
    PUBLIC_URL,
    SECRET,
    WEBHOOK_URL,
    WITH_SECRET,
    Driver,
    filters,
    inputs,
)

OTHER_HOST = "other.example.com"
OTHER_URL = f"https://{OTHER_HOST}/v1/webhooks/posthog"
PLACEHOLDER = "https://CHANGEME.yourdomain.com/v1/webhooks/posthog"
HEALTH = {"status": "healthy", "components": {"database": {"status": "up"}}}


class Instance:
    """What answers at another host."""

    def __init__(self, status: int = 200, body: Any = HEALTH, location: str = "") -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.location = location
        self.seen: list[tuple[str, str, dict[bytes, bytes]]] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.seen.append((scope["method"], scope["path"], dict(scope["headers"])))
        headers = [(b"location", self.location.encode())] if self.location else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def theirs(driver: Driver, id: str = "theirs", **values: Any) -> None:
    driver.posthog.add(id, **{"inputs": inputs(OTHER_URL), "filters": filters(), **values})


async def provisioned(driver: Driver, query: str = "") -> Any:
    answer = await driver.provision(query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.mark.parametrize("secret", [SECRET, None, ""], ids=["our_secret", "no_header", "empty"])
async def test_a_live_instance_keeps_its_destination(
    start: Start, instance: Instance, secret: str | None
) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        theirs(driver, inputs=inputs(OTHER_URL, secret))
        result = await provisioned(driver)
    assert result["action"] == "created"
    assert result["otherInstances"] == [{"hogFunctionId": "theirs", "webhookUrl": OTHER_URL}]
    assert driver.posthog.bodies("PATCH") == []
    ((method, path, headers),) = instance.seen
    assert (method, path) == ("GET", "/v1/health")
    assert b"authorization" not in headers


async def test_another_secret_belongs_to_another_instance_without_a_question(
    start: Start, instance: Instance
) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        theirs(driver, inputs=inputs(OTHER_URL, "their-secret"))
        result = await provisioned(driver)
    assert result["action"] == "created"
    assert [other["hogFunctionId"] for other in result["otherInstances"]] == ["theirs"]
    assert instance.seen == []


async def test_ours_behind_another_instances_is_found(start: Start, instance: Instance) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        theirs(driver)
        driver.posthog.add("ours", inputs=inputs(), filters=filters())
        result = await provisioned(driver)
    assert (result["action"], result["hogFunctionId"]) == ("unchanged", "ours")
    assert [other["hogFunctionId"] for other in result["otherInstances"]] == ["theirs"]


async def test_two_instances_do_not_fight(start: Start, instance: Instance) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        first = await provisioned(driver)
        # Somebody else takes ours over, as upstream's Hogsend does.
        driver.posthog.functions["fn-1"]["inputs"] = inputs(OTHER_URL, "their-secret")
        second = await provisioned(driver)
        third = await provisioned(driver)
    assert (first["hogFunctionId"], second["action"]) == ("fn-1", "created")
    assert (third["action"], third["hogFunctionId"]) == ("unchanged", second["hogFunctionId"])
    assert driver.posthog.functions["fn-1"]["inputs"] == inputs(OTHER_URL, "their-secret")


@pytest.mark.parametrize(
    "answer",
    [
        Instance(404),
        Instance(500),
        Instance(200, b"<html>parked</html>"),
        Instance(200, []),
        Instance(200, {"status": "healthy"}),
        Instance(200, {"status": 1, "components": {}}),
        Instance(200, {**HEALTH, "more": "x" * 100_000}),
        Instance(302, HEALTH, location="https://else.example.com/v1/health"),
    ],
    ids=["404", "500", "html", "array", "no_components", "odd_status", "too_large", "redirect"],
)
async def test_a_host_without_a_hogsend_is_taken_over(start: Start, answer: Instance) -> None:
    elsewhere = Instance()
    instances = {OTHER_HOST: answer, "else.example.com": elsewhere}
    async with start(environment=WITH_SECRET, instances=instances) as driver:
        theirs(driver)
        result = await provisioned(driver)
    assert (result["action"], result["hogFunctionId"]) == ("updated", "theirs")
    assert "otherInstances" not in result
    assert len(answer.seen) == 1
    assert elsewhere.seen == []


async def test_a_host_that_is_gone_is_taken_over(driver: Driver) -> None:
    theirs(driver)
    assert (await provisioned(driver))["action"] == "updated"


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": False},
        {"inputs": inputs(PLACEHOLDER, "their-secret")},
        {"inputs": inputs("http://localhost:3002/v1/webhooks/posthog", "their-secret")},
        {"inputs": inputs("http://127.0.0.1:9/v1/webhooks/posthog", "their-secret")},
        {"inputs": inputs("http://t.example.com/v1/webhooks/posthog", "their-secret")},
    ],
    ids=["disabled", "placeholder", "localhost", "loopback", "our_host_over_http"],
)
async def test_what_works_for_nobody_is_taken_over_without_a_question(
    start: Start, instance: Instance, values: dict[str, Any]
) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        theirs(driver, **values)
        result = await provisioned(driver)
    assert (result["action"], result["hogFunctionId"]) == ("updated", "theirs")
    assert instance.seen == []


async def test_ours_is_remembered_when_url_and_secret_both_change(
    start: Start, instance: Instance
) -> None:
    old, new = f"https://{OTHER_HOST}", PUBLIC_URL
    changed = {"posthog_webhook_secret": "rotated"}
    instances = {OTHER_HOST: instance}
    async with start(environment=WITH_SECRET, public_url=old, instances=instances) as driver:
        assert (await provisioned(driver))["webhookUrl"] == OTHER_URL
    async with start(environment=changed, public_url=new, instances=instances) as driver:
        result = await provisioned(driver)
    assert (result["action"], result["hogFunctionId"]) == ("updated", "fn-1")
    assert result["webhookUrl"] == WEBHOOK_URL
    assert instance.seen == []


async def test_what_was_provisioned_is_remembered(driver: Driver) -> None:
    driver.posthog.add("adopted", inputs=inputs(), filters=filters())
    await provisioned(driver)
    async with driver.provisioner.database.acquire() as connection:
        (row,) = await connection.fetch("SELECT * FROM destinations")
    assert (row["project_id"], row["hog_function_id"]) == ("4242", "adopted")
    assert row["webhook_url"] == WEBHOOK_URL
    assert row["provisioned_at"] is not None


async def test_credentials_in_anothers_url_are_not_shown(driver: Driver) -> None:
    url = f"https://user:hidden@{OTHER_HOST}/v1/webhooks/posthog?token=hidden"
    theirs(driver, inputs=inputs(url, "their-secret"))
    result = await provisioned(driver)
    assert result["otherInstances"][0]["webhookUrl"] == OTHER_URL


@pytest.mark.parametrize(
    ("values", "enabled", "url"),
    [
        ({}, True, OTHER_URL),
        ({"inputs": inputs(OTHER_URL, "their-secret")}, True, OTHER_URL),
        ({"inputs": inputs()}, True, WEBHOOK_URL),
        ({"inputs": inputs(), "enabled": False}, False, WEBHOOK_URL),
        ({"inputs": inputs(PLACEHOLDER, None), "enabled": False}, False, PLACEHOLDER),
    ],
    ids=["live", "anothers", "ours", "disabled", "placeholder"],
)
async def test_a_placeholder_never_changes_what_is_there(
    start: Start, instance: Instance, values: dict[str, Any], enabled: bool, url: str
) -> None:
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: instance}) as driver:
        theirs(driver, **values)
        result = await provisioned(driver, "?placeholder=true")
    assert (result["action"], result["hogFunctionId"]) == ("unchanged", "theirs")
    assert (result["enabled"], result["webhookUrl"]) == (enabled, url)
    assert {request.method for request in driver.posthog.requests} == {"GET"}
    assert instance.seen == []


async def test_a_placeholder_becomes_the_real_destination(start: Start) -> None:
    async with start(environment=WITH_SECRET) as driver:
        placeholder = await provisioned(driver, "?placeholder=true")
        again = await provisioned(driver, "?placeholder=true")
        real = await provisioned(driver)
    assert [placeholder["action"], again["action"], real["action"]] == [
        "created",
        "unchanged",
        "updated",
    ]
    assert real["hogFunctionId"] == placeholder["hogFunctionId"]
    assert (real["enabled"], real["webhookUrl"]) == (True, WEBHOOK_URL)
