"""The query API, as PostHog has it for the part of HogQL that is understood."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver, sandbox

QUERY = "/api/projects/4242/query/"
TIMES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")


async def ask(posthog: Driver, query: str, **values: Any) -> Any:
    body = {"query": {"kind": "HogQLQuery", "query": query, "values": values}}
    return await posthog.http.post(QUERY, json=body, headers=posthog.key)


async def captured(posthog: Driver) -> None:
    for number, time in enumerate(reversed(TIMES)):
        await posthog.capture(f"e{number}", "u_1", timestamp=time, properties={"n": number})


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select event from events order by timestamp", [["e2"], ["e1"], ["e0"]]),
        ("SELECT event FROM events ORDER BY timestamp DESC LIMIT 1", [["e0"]]),
        ("SELECT event FROM events ORDER BY timestamp LIMIT 1 OFFSET 1", [["e1"]]),
        ("SELECT count() FROM events WHERE event = 'e1' OR (event != 'e2' AND 1 = 1)", [[2]]),
        ("SELECT count() FROM events WHERE timestamp > toDateTime({after})", [[1]]),
        (
            "SELECT properties, person.properties FROM events WHERE event = {name}",
            [['{"n":1}', "{}"]],
        ),
        ("SELECT timestamp FROM events WHERE event = {name}", [["2026-01-02T00:00:00Z"]]),
        ("SELECT toString(properties.n) FROM events WHERE event = {name}", [["1"]]),
        ("SELECT properties.nothing FROM events WHERE event = {name}", [[None]]),
        ("SELECT count() FROM events WHERE coalesce(properties.n, '') != '1'", [[2]]),
        ("SELECT count() FROM events WHERE coalesce(toString(properties.$lib), '') = ''", [[3]]),
        ("SELECT 1", [[1]]),
    ],
)
async def test_events_are_selected(posthog: Driver, query: str, rows: list[Any]) -> None:
    await captured(posthog)
    answer = await ask(posthog, query, after=TIMES[1], name="e1")
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == rows


async def test_a_hundred_rows_are_given_unless_it_says_how_many(posthog: Driver) -> None:
    for number in range(101):
        await posthog.capture("e", f"u_{number}")
    answer = (await ask(posthog, "SELECT event FROM events")).json()
    assert (len(answer["results"]), answer["limit"], answer["hasMore"]) == (100, 100, True)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "DROP TABLE events",
        "SELECT nothing FROM events",
        "SELECT event FROM persons",
        "SELECT event FROM events WHERE",
        "SELECT event FROM events WHERE event = {nothing}",
        "SELECT event FROM events WHERE timestamp > toDateTime('soon')",
        "SELECT event FROM events WHERE timestamp > 'x'",
        "SELECT event FROM events LIMIT many",
        "SELECT event FROM events; SELECT 1",
        "SELECT event FROM events SELECT",
    ],
)
async def test_what_is_not_understood_is_refused(posthog: Driver, query: str) -> None:
    await captured(posthog)
    answer = await ask(posthog, query)
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


async def test_bodies_that_are_no_query_are_refused(posthog: Driver) -> None:
    for body in (b"{", b"{}", b'{"query": {"kind": "TrendsQuery", "query": ""}}'):
        answer = await posthog.http.post(QUERY, content=body, headers=posthog.key)
        assert answer.status_code == 400


async def test_it_needs_its_scope() -> None:
    async with sandbox(personal_key_scopes=("person:read",)) as posthog:
        answer = await ask(posthog, "SELECT 1")
    assert answer.status_code == 403
    assert "query:read" in answer.json()["detail"]
