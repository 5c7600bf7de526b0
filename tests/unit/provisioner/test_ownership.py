"""Ownership: which destination belongs to which instance when several share a project.

Contract 2.2 takes the first destination with Hogsend's webhook path. These rules are stricter and
take precedence: otherwise two instances would repoint each other's destination without end.
"""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.posthog.api import HogFunction
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.ownership import Ownership
from tests.destinations import (
    OTHER_HOST,
    OTHER_SECRET,
    OTHER_URL,
    PLACEHOLDER_URL,
    SECRET,
    WEBHOOK_URL,
    filters,
    inputs,
)
from tests.posthog_recorder import SCHEMA, Recorder
from tests.unit.provisioner.fakes import FakeInstance, http_to


@pytest.fixture
def instance() -> FakeInstance:
    return FakeInstance()


def function(
    url: Any = OTHER_URL, secret: str | None = OTHER_SECRET, **changes: Any
) -> HogFunction:
    values: dict[str, Any] = {
        "id": "fn",
        "enabled": True,
        "inputs": inputs(url, secret),
        "inputs_schema": SCHEMA,
        "filters": filters(),
    }
    return HogFunction(**{**values, **changes})


async def is_own(
    instance: FakeInstance,
    function: HogFunction,
    *,
    secret: str | None = SECRET,
    provisioned: dict[str, str] | None = None,
) -> bool:
    probe = InstanceProbe(http_to(Recorder(), {OTHER_HOST: instance}))
    return await Ownership(WEBHOOK_URL, secret, provisioned or {}, probe).is_own(function)


@pytest.mark.parametrize("secret", [SECRET, None, ""], ids=["own_secret", "no_header", "empty"])
async def test_a_live_instance_keeps_a_destination_without_a_foreign_secret(
    instance: FakeInstance, secret: str | None
) -> None:
    assert not await is_own(instance, function(secret=secret))
    assert len(instance.requests) == 1


@pytest.mark.parametrize("secret", [SECRET, None, ""], ids=["own_secret", "no_header", "empty"])
async def test_a_destination_without_a_live_instance_is_taken_over(secret: str | None) -> None:
    no_instance = FakeInstance(404)
    assert await is_own(no_instance, function(secret=secret))
    assert len(no_instance.requests) == 1


@pytest.mark.parametrize("header", ["x-posthog-webhook-secret", "X-PostHog-Webhook-Secret"])
async def test_a_destination_with_another_secret_is_foreign_without_a_probe(
    instance: FakeInstance, header: str
) -> None:
    with_secrets = inputs(OTHER_URL, headers={"value": {header: OTHER_SECRET}})
    assert not await is_own(instance, function(inputs=with_secrets))
    assert instance.requests == []


async def test_any_secret_counts_as_foreign_when_the_own_one_is_unknown(
    instance: FakeInstance,
) -> None:
    assert not await is_own(instance, function(secret=SECRET), secret=None)
    assert instance.requests == []
    assert await is_own(FakeInstance(404), function(secret=None), secret=None)


@pytest.mark.parametrize(
    "candidate",
    [
        function(WEBHOOK_URL),
        function("http://t.example.com/v1/webhooks/posthog"),
        function(enabled=False),
        function(PLACEHOLDER_URL),
        function("http://localhost:3002/v1/webhooks/posthog"),
        function("http://127.0.0.1:9/v1/webhooks/posthog"),
    ],
    ids=["own_url", "own_url_over_http", "disabled", "placeholder", "localhost", "loopback"],
)
async def test_a_destination_that_cannot_deliver_to_another_instance_is_owned_without_a_probe(
    instance: FakeInstance, candidate: HogFunction
) -> None:
    assert await is_own(instance, candidate)
    assert instance.requests == []


async def test_a_destination_with_its_provisioned_url_is_owned(instance: FakeInstance) -> None:
    assert await is_own(instance, function(), provisioned={"fn": OTHER_URL})
    assert instance.requests == []


@pytest.mark.parametrize(
    "provisioned", [{"fn": WEBHOOK_URL}, {"another": OTHER_URL}, {"fn": f"{OTHER_URL}?x=1"}]
)
async def test_a_destination_that_was_repointed_since_is_not_owned(
    instance: FakeInstance, provisioned: dict[str, str]
) -> None:
    assert not await is_own(instance, function(), provisioned=provisioned)


@pytest.mark.parametrize(
    "url", ["ftp://other.example.com/v1/webhooks/posthog", "https://:8080/v1/webhooks/posthog"]
)
async def test_a_destination_with_an_unreachable_url_is_owned(
    instance: FakeInstance, url: str
) -> None:
    assert await is_own(instance, function(url, None))
    assert instance.requests == []


async def test_invalid_headers_count_as_headers_without_a_secret(instance: FakeInstance) -> None:
    odd: list[Any] = [None, {"secret": True}, {"value": []}, {"value": {"x-other": OTHER_SECRET}}]
    for headers in odd:
        assert not await is_own(
            instance, function(inputs={**inputs(OTHER_URL), "headers": headers})
        )
    assert len(instance.requests) == 4


async def test_the_own_secret_counts_under_each_spelling_of_its_header(
    instance: FakeInstance,
) -> None:
    both = {"X-PostHog-Webhook-Secret": OTHER_SECRET, "x-posthog-webhook-secret": SECRET}
    with_secrets = {**inputs(OTHER_URL), "headers": {"value": both}}
    assert await is_own(FakeInstance(404), function(inputs=with_secrets))
    assert not await is_own(instance, function(inputs=with_secrets))
    assert len(instance.requests) == 1
