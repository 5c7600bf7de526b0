"""Looking up persons by text and by properties."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver

PERSONS = "/api/projects/4242/persons/"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "ADA@"}, ["u_1"]),
        ({"search": "grace h"}, ["u_2"]),
        ({"search": "u_"}, ["u_1", "u_2"]),
        ({"search": "nobody"}, []),
        ({"properties": [{"key": "plan", "value": "pro"}]}, ["u_1"]),
        ({"properties": [{"key": "plan", "value": ["pro", "free"]}]}, ["u_1", "u_2"]),
        ({"properties": [{"key": "plan", "value": "pro", "operator": "is_not"}]}, ["u_2"]),
        ({"search": "u_", "properties": [{"key": "plan", "operator": "is_not_set"}]}, []),
        ({"distinct_id": "u_1", "search": "grace"}, []),
    ],
)
async def test_persons_are_found(posthog: Driver, query: dict[str, Any], found: list[str]) -> None:
    ada = {"email": "ada@example.com", "plan": "pro"}
    await posthog.capture("$set", "u_1", properties={"$set": ada})
    await posthog.capture("$set", "u_2", properties={"$set": {"name": "Grace H", "plan": "free"}})
    text = {key: one if isinstance(one, str) else json.dumps(one) for key, one in query.items()}
    answer = await posthog.http.get(PERSONS, params=text, headers=posthog.key)
    assert sorted(one["distinct_ids"][0] for one in answer.json()["results"]) == found


@pytest.mark.parametrize(
    "text", ["{", '{"key": 1}', "[1]", '[{"key": "a", "operator": "between"}]']
)
async def test_properties_that_cannot_be_read_are_refused(posthog: Driver, text: str) -> None:
    await posthog.capture("$set", "u_1", properties={"$set": {"a": 1}})
    answer = await posthog.http.get(PERSONS, params={"properties": text}, headers=posthog.key)
    assert (answer.status_code, answer.json()["attr"]) == (400, "properties")
