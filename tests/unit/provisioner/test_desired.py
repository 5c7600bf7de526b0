"""The request bodies that create and change a destination (contract 2.4 and 2.5)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hogsend.posthog.api import HogFunction
from services.provisioner.destination import desired
from services.provisioner.destination.desired import IDENTIFIED, Desired
from tests.destinations import PLACEHOLDER_URL, PUBLIC_URL, SECRET, WEBHOOK_URL, filters, inputs
from tests.posthog_recorder import SCHEMA

FOREIGN = {"key": "$host", "type": "event", "value": ["a"], "operator": "exact"}
LIVE = desired.live(PUBLIC_URL, SECRET)
OWN_HEADERS = {"Content-Type": "application/json", "x-posthog-webhook-secret": SECRET}


def sent(body: msgspec.Struct) -> Any:
    return json.loads(msgspec.json.encode(body))


def change(desired_state: Desired = LIVE, **values: Any) -> Any:
    existing: dict[str, Any] = {
        "id": "fn",
        "enabled": True,
        "inputs": inputs(),
        "inputs_schema": SCHEMA,
        "filters": filters(),
    }
    return sent(desired.changes(HogFunction(**{**existing, **values}), desired_state))


def test_case_52_the_body_of_a_creation() -> None:
    body = sent(desired.creation(LIVE))
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
            "headers": {"value": OWN_HEADERS},
            "debug": {"value": False},
        },
        "filters": {
            "source": "events",
            "properties": [
                {"key": "$is_identified", "type": "event", "value": ["true"], "operator": "exact"}
            ],
        },
    }


def test_a_placeholder_is_created_disabled() -> None:
    body = sent(desired.creation(desired.placeholder(SECRET)))
    assert body["enabled"] is False
    assert body["inputs"]["url"]["value"] == PLACEHOLDER_URL
    assert body["inputs"]["headers"]["value"] == OWN_HEADERS


def test_case_56_a_change_keeps_the_operators_settings() -> None:
    patch = change(
        inputs=inputs(
            "https://old.example.com/v1/webhooks/posthog",
            headers={"value": {"x-custom": "keep"}},
            debug={"value": True},
        ),
        filters={
            "source": "person-updates",
            "bytecode": ["_H", 1],
            "properties": [FOREIGN],
            "filter_test_accounts": True,
        },
    )
    assert set(patch) == {"enabled", "inputs", "filters"}
    assert patch["inputs"] == {
        "url": {"value": WEBHOOK_URL},
        "method": {"value": "POST"},
        "body": {"value": {"event": "{event}", "person": "{person}"}},
        "headers": {"value": {"x-custom": "keep", **OWN_HEADERS}},
        "debug": {"value": True},
    }
    assert patch["filters"] == {
        "source": "events",
        "properties": [FOREIGN, IDENTIFIED],
        "filter_test_accounts": True,
    }


def test_case_57_a_stale_secret_is_replaced() -> None:
    patch = change(inputs=inputs(secret="stale"))
    assert patch["inputs"]["headers"]["value"] == OWN_HEADERS


def test_case_58_a_disabled_destination_is_enabled() -> None:
    assert change(enabled=False)["enabled"] is True


def test_an_existing_filter_is_not_added_again() -> None:
    entry = {**IDENTIFIED, "value": True}
    assert change(filters={"properties": [entry]})["filters"]["properties"] == [entry]


def test_another_spelling_of_an_own_header_is_replaced() -> None:
    headers = {"X-PostHog-Webhook-Secret": "stale", "content-type": "text/plain"}
    patch = change(inputs=inputs(headers={"value": headers}))
    assert patch["inputs"]["headers"]["value"] == OWN_HEADERS


@pytest.mark.parametrize("odd", [None, 7, "x", [], {"secret": True}])
def test_invalid_headers_and_filters_are_replaced(odd: Any) -> None:
    patch = change(inputs={"headers": odd, "debug": odd, "url": odd}, filters={"properties": odd})
    assert patch["inputs"]["headers"]["value"] == OWN_HEADERS
    assert patch["inputs"]["debug"] == {"value": False}
    assert patch["filters"] == {"source": "events", "properties": [IDENTIFIED]}


@pytest.mark.parametrize("debug", ["yes", 1, None, False])
def test_only_a_true_debug_is_kept(debug: Any) -> None:
    assert change(inputs=inputs(debug={"value": debug}))["inputs"]["debug"] == {"value": False}


def test_case_61_a_legacy_destination_is_upgraded() -> None:
    schema = [{"key": key} for key in ("url", "payload", "headers")]
    patch = change(inputs_schema=schema, inputs={"url": {"value": WEBHOOK_URL}})
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


def test_the_legacy_program_logs_no_header() -> None:
    hog = change(inputs_schema=[])["hog"]
    printed = [line for line in hog.splitlines() if "print(" in line]
    assert len(printed) == 2
    assert not any("headers" in line or "payload" in line for line in printed)


def test_case_62_a_change_never_renames() -> None:
    for patch in (change(enabled=False), change(inputs_schema=[])):
        assert not {"name", "description", "template_id", "type"} & set(patch)


def test_no_repr_contains_the_secret() -> None:
    function = HogFunction(
        id="fn", enabled=True, inputs=inputs(), inputs_schema=[], filters=filters()
    )
    bodies = (LIVE, desired.creation(LIVE), desired.changes(function, LIVE), function)
    for shown in map(repr, bodies):
        assert SECRET not in shown


def test_other_inputs_are_sent_back_unchanged() -> None:
    # PostHog replaces all inputs. A secret input that is sent back as it was returned keeps its
    # value.
    compiled = {"bytecode": ["_H", 1], "order": 3}
    patch = change(
        inputs=inputs(
            signing_secret={"secret": True},
            region={"value": "{event.region}", "templating": "liquid", **compiled},
        )
    )
    assert patch["inputs"]["signing_secret"] == {"secret": True}
    assert patch["inputs"]["region"] == {"value": "{event.region}", "templating": "liquid"}
    assert patch["inputs"]["headers"] == {"value": OWN_HEADERS}


def test_compiled_fields_of_filters_are_not_sent_back() -> None:
    # PostHog accepts no null for some of these fields.
    compiled = {"bytecode": None, "bytecode_error": None, "transpiled": None}
    assert change(filters={**filters(), **compiled})["filters"] == filters()


def test_an_upgraded_program_gets_no_input_of_the_old_one() -> None:
    old = [{"key": "url"}, {"key": "payload"}]
    assert (
        "payload" not in change(inputs=inputs(payload={"value": {}}), inputs_schema=old)["inputs"]
    )
