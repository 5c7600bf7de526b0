"""Drift: each way a destination can differ from the desired one (contract 2.3)."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.api import HogFunction
from hogsend.posthog.api.hog_functions import WatcherState
from services.provisioner.destination.desired import IDENTIFIED
from services.provisioner.destination.drift import (
    BODY,
    find_drift,
    has_canonical_schema,
    is_identified_filter,
)
from tests.destinations import SECRET, WEBHOOK_URL, filters, inputs
from tests.posthog_recorder import SCHEMA

FOREIGN = {"key": "$host", "type": "event", "value": ["a"], "operator": "exact"}


def function(**changes: Any) -> HogFunction:
    values: dict[str, Any] = {
        "id": "fn",
        "enabled": True,
        "inputs": inputs(),
        "inputs_schema": SCHEMA,
        "filters": filters(),
    }
    return HogFunction(**{**values, **changes})


def drift(secret: str | None = SECRET, **changes: Any) -> list[str]:
    return find_drift(function(**changes), WEBHOOK_URL, secret)


def test_a_compliant_destination_has_no_drift() -> None:
    assert drift() == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"enabled": False}, "it is disabled"),
        ({"watcher_state": WatcherState.DISABLED}, "PostHog disabled it"),
        ({"inputs": inputs("https://old.example.com/v1/webhooks/posthog")}, "URL"),
        ({"inputs": inputs(f"{WEBHOOK_URL}?x=1")}, "URL"),
        ({"inputs": inputs(method={"value": "PUT"})}, "method"),
        ({"inputs": inputs(body={"value": {"event": "{event}"}})}, "body"),
        (
            {"inputs": inputs(headers={"value": {SECRET_HEADER: SECRET}})},
            "content type",
        ),
        ({"inputs": inputs(secret="stale")}, "webhook secret"),
        ({"inputs": inputs(secret=None)}, "webhook secret"),
        ({"inputs": inputs(body={"value": BODY, "templating": "liquid"})}, "body"),
        ({"filters": {**filters(), "bytecode": None, "bytecode_error": "Cohort"}}, "filters"),
        ({"filters": {}}, "identified persons"),
        ({"filters": {"properties": [FOREIGN, None, 7]}}, "identified persons"),
        ({"inputs_schema": SCHEMA[1:]}, "old version"),
        ({"inputs_schema": [*SCHEMA, {"key": "payload"}]}, "old version"),
    ],
)
def test_each_difference_is_reported_alone(changes: dict[str, Any], difference: str) -> None:
    (reported,) = drift(**changes)
    assert difference in reported


@pytest.mark.parametrize(
    "compiled",
    [
        {"bytecode": ["_H", 1, 29]},
        # Such filters still deliver if they compiled earlier (PostHog/posthog#103744).
        {"bytecode": ["_H", 1, 29], "bytecode_error": "Cohort"},
    ],
)
def test_filters_that_posthog_runs_are_no_drift(compiled: dict[str, Any]) -> None:
    assert drift(filters={**filters(), **compiled}) == []


def test_a_body_declared_as_hog_is_no_drift() -> None:
    assert drift(inputs=inputs(body={"value": BODY, "templating": "hog"})) == []


def test_several_differences_are_all_reported() -> None:
    assert len(drift(enabled=False, filters={}, inputs_schema=[])) == 3


@pytest.mark.parametrize(
    "watcher_state", [WatcherState.UNKNOWN, WatcherState.DEGRADED, WatcherState.BLOCKED]
)
def test_a_state_that_an_update_would_not_fix_is_no_drift(watcher_state: WatcherState) -> None:
    assert drift(watcher_state=watcher_state) == []


def test_a_secret_that_posthog_would_evaluate_as_a_template_is_drift() -> None:
    (difference,) = drift("s{cret", inputs=inputs(secret="s{cret"))
    assert "template" in difference


def test_an_unknown_secret_is_not_compared() -> None:
    assert drift(None, inputs=inputs(secret="any")) == []


def headers(**changes: Any) -> dict[str, Any]:
    """Return inputs whose headers also contain `changes`."""
    own = inputs()["headers"]["value"]
    return inputs(headers={"value": {**own, **changes}})


@pytest.mark.parametrize(
    ("added", "differences"),
    [
        ({"X-PostHog-Webhook-Secret": "old"}, ["secret is different", "secret is there twice"]),
        ({"X-PostHog-Webhook-Secret": {"odd": 1}}, ["secret is different", "there twice"]),
        ({"X-PostHog-Webhook-Secret": SECRET}, ["secret is there twice"]),
        ({"content-type": "text/plain"}, ["content type"]),
        ({"CONTENT-TYPE": "application/json"}, ["content type"]),
    ],
)
def test_a_second_spelling_of_an_own_header_is_drift(
    added: dict[str, Any], differences: list[str]
) -> None:
    reported = drift(inputs=headers(**added))
    assert len(reported) == len(differences)
    assert all(expected in actual for expected, actual in zip(differences, reported, strict=True))


def test_two_secret_headers_are_drift_even_when_the_own_secret_is_unknown() -> None:
    assert drift(None, inputs=headers(**{"X-PostHog-Webhook-Secret": "old"}))


def test_another_spelling_of_the_only_header_is_no_drift() -> None:
    spelled = {"CONTENT-TYPE": "application/json", "X-PostHog-Webhook-Secret": SECRET}
    assert drift(inputs=inputs(headers={"value": spelled})) == []


def test_additions_of_the_operator_are_no_drift() -> None:
    added = inputs(debug={"value": True})
    added["headers"]["value"]["x-custom"] = "keep"
    more = [*SCHEMA, {"key": "extra"}, None, 3]
    assert drift(inputs=added, filters=filters(FOREIGN), inputs_schema=more) == []


@pytest.mark.parametrize("value", [[True], "true", True, ["true"]])
def test_case_59_every_spelling_of_the_filter(value: Any) -> None:
    assert is_identified_filter({**IDENTIFIED, "value": value})
    assert drift(filters={"properties": [FOREIGN, {**IDENTIFIED, "value": value}]}) == []


@pytest.mark.parametrize("value", ["false", ["true", "false"], [], None, 1, [1], "True"])
def test_other_filter_values_are_drift(value: Any) -> None:
    assert drift(filters={"properties": [{**IDENTIFIED, "value": value}]})


@pytest.mark.parametrize(
    "entry", [None, 7, [], "x", {**IDENTIFIED, "operator": "is_not"}, {**IDENTIFIED, "key": "$x"}]
)
def test_another_filter_is_not_the_filter_of_identified_persons(entry: Any) -> None:
    assert not is_identified_filter(entry)


def test_a_schema_is_canonical_with_all_five_inputs_and_no_payload() -> None:
    assert has_canonical_schema(function())
    for missing in range(len(SCHEMA)):
        assert not has_canonical_schema(
            function(inputs_schema=SCHEMA[:missing] + SCHEMA[missing + 1 :])
        )
