"""Persons are listed by search text and by properties, and deleted."""

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


async def test_deleted_persons_are_reported_as_queued_with_their_events(posthog: Driver) -> None:
    await posthog.capture("signup", "u_1")
    body = {"distinct_ids": ["u_1", "u_unknown"], "delete_events": True}
    for queued in (1, 0):
        response = await posthog.http.post(f"{PERSONS}bulk_delete/", json=body, headers=posthog.key)
        assert response.status_code == 202
        assert response.json() == {
            "persons_found": queued,
            "persons_queued_for_deletion": queued,
            "persons_deleted": 0,
            "events_queued_for_deletion": bool(queued),
            "recordings_queued_for_deletion": False,
            "deletion_errors": [],
        }
    remaining = await posthog.http.get(PERSONS, params={"distinct_id": "u_1"}, headers=posthog.key)
    assert remaining.json()["results"] == []


@pytest.mark.parametrize("body", [{}, {"distinct_ids": ["u_1"], "ids": ["0190-a"]}])
async def test_a_deletion_names_either_distinct_ids_or_uuids(
    posthog: Driver, body: dict[str, Any]
) -> None:
    response = await posthog.http.post(f"{PERSONS}bulk_delete/", json=body, headers=posthog.key)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_input")
