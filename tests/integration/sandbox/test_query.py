"""The query API, for the part of HogQL that the sandbox supports."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver, sandbox

QUERY = "/api/projects/4242/query/"
TIMES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")


async def run_query(posthog: Driver, query: str, **values: Any) -> Any:
    body = {"query": {"kind": "HogQLQuery", "query": query, "values": values}}
    return await posthog.http.post(QUERY, json=body, headers=posthog.key)


async def capture_events(posthog: Driver) -> None:
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
async def test_a_query_selects_filters_and_orders_events(
    posthog: Driver, query: str, rows: list[Any]
) -> None:
    await capture_events(posthog)
    response = await run_query(posthog, query, after=TIMES[1], name="e1")
    assert response.status_code == 200, response.text
    assert response.json()["results"] == rows


async def test_a_query_without_a_limit_returns_at_most_a_hundred_rows(posthog: Driver) -> None:
    for number in range(101):
        await posthog.capture("e", f"u_{number}")
    response = (await run_query(posthog, "SELECT event FROM events")).json()
    assert (len(response["results"]), response["limit"], response["hasMore"]) == (100, 100, True)


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
async def test_an_invalid_or_unsupported_query_is_refused(posthog: Driver, query: str) -> None:
    await capture_events(posthog)
    response = await run_query(posthog, query)
    assert (response.status_code, response.json()["type"]) == (400, "validation_error")


async def test_a_body_without_a_hogql_query_is_refused(posthog: Driver) -> None:
    for body in (b"{", b"{}", b'{"query": {"kind": "TrendsQuery", "query": ""}}'):
        response = await posthog.http.post(QUERY, content=body, headers=posthog.key)
        assert response.status_code == 400


async def test_the_query_api_requires_its_scope() -> None:
    async with sandbox(personal_key_scopes=("person:read",)) as posthog:
        response = await run_query(posthog, "SELECT 1")
    assert response.status_code == 403
    assert "query:read" in response.json()["detail"]
