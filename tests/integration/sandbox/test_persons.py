"""Persons are listed by search text and by properties."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver

PERSONS = "/api/projects/4242/persons/"


@pytest.mark.parametrize(
    ("query", "distinct_ids"),
    [
        ({"search": "ADA@"}, ["u_1"]),
        ({"search": "grace h"}, ["u_2"]),
        ({"search": "u_"}, ["u_1", "u_2"]),
        ({"search": "unknown"}, []),
        ({"properties": [{"key": "plan", "value": "pro"}]}, ["u_1"]),
        ({"properties": [{"key": "plan", "value": ["pro", "free"]}]}, ["u_1", "u_2"]),
        ({"properties": [{"key": "plan", "value": "pro", "operator": "is_not"}]}, ["u_2"]),
        ({"search": "u_", "properties": [{"key": "plan", "operator": "is_not_set"}]}, []),
        ({"distinct_id": "u_1", "search": "grace"}, []),
    ],
)
async def test_persons_are_listed_by_search_text_and_properties(
    posthog: Driver, query: dict[str, Any], distinct_ids: list[str]
) -> None:
    ada = {"email": "ada@example.com", "plan": "pro"}
    await posthog.capture("$set", "u_1", properties={"$set": ada})
    await posthog.capture("$set", "u_2", properties={"$set": {"name": "Grace H", "plan": "free"}})
    params = {key: v if isinstance(v, str) else json.dumps(v) for key, v in query.items()}
    response = await posthog.http.get(PERSONS, params=params, headers=posthog.key)
    results = response.json()["results"]
    assert sorted(person["distinct_ids"][0] for person in results) == distinct_ids


@pytest.mark.parametrize(
    "text", ["{", '{"key": 1}', "[1]", '[{"key": "a", "operator": "between"}]']
)
async def test_malformed_properties_are_refused(posthog: Driver, text: str) -> None:
    await posthog.capture("$set", "u_1", properties={"$set": {"a": 1}})
    response = await posthog.http.get(PERSONS, params={"properties": text}, headers=posthog.key)
    assert (response.status_code, response.json()["attr"]) == (400, "properties")
