"""PostHog's private API over real HTTP: what is sent, what is read, and what an error may say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from hogsend.contract.json_text import MAX_DEPTH
from hogsend.posthog.api import PostHogError, Projects, Transport, queries, transport
from hogsend.posthog.api.queries import EventRange, Queries
from hogsend.posthog.errors import PostHogResponseTooLarge
from hogsend.service.http import http_client
from tests.integration.harness import LOOPBACK
from tests.posthog_recorder import Recorded, Recorder, posthog_recorder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def posthog() -> AsyncIterator[Recorder]:
    async with posthog_recorder() as recorder:
        yield recorder


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(LOOPBACK) as client:
        yield client


async def refused(http: httpx.AsyncClient, posthog: Recorder, bearer: str = "pha_a") -> Any:
    with pytest.raises(PostHogError) as raised:
        await Transport(http, posthog.url, bearer, secrets=["s3cret"]).get("/api/x/", seconds=5)
    return raised.value


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "No.", "attr": "name"}, "No."),
        ({"detail": 7}, '{"detail": 7}'),
        (["no"], '["no"]'),
        (b"", ""),
        (b"  <p>no</p>\n", "<p>no</p>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 200 + "…"),
        ({"detail": "x" * 201}, "x" * 200 + "…"),
        ({"detail": "x" * 200}, "x" * 200),
    ],
)
async def test_an_error_carries_posthogs_words(
    http: httpx.AsyncClient, posthog: Recorder, body: Any, detail: str
) -> None:
    posthog.refuse("GET", "/api/x/", 400, body)
    error = await refused(http, posthog)
    assert (error.status, error.detail) == (400, detail)


@pytest.mark.parametrize(("said", "code"), [("too_many_bytes", "too_many_bytes"), (7, None)])
async def test_an_error_carries_posthogs_code(
    http: httpx.AsyncClient, posthog: Recorder, said: Any, code: str | None
) -> None:
    posthog.refuse("GET", "/api/x/", 400, {"detail": "No.", "code": said})
    assert (await refused(http, posthog)).code == code


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_error_never_repeats_a_secret(
    http: httpx.AsyncClient, posthog: Recorder, status: int
) -> None:
    posthog.refuse("GET", "/api/x/", status, {"detail": "x" * 190 + " pha_secret s3cret"})
    error = await refused(http, posthog, "pha_secret")
    for part in ("pha", "s3c"):
        assert part not in str(error)


@pytest.mark.parametrize("bearer", ["pha_ä", "pha_a\r\nX-Evil: 1", "pha_\x00"])
async def test_a_bearer_that_cannot_be_sent_is_not_shown(
    http: httpx.AsyncClient, posthog: Recorder, bearer: str
) -> None:
    error = await refused(http, posthog, bearer)
    assert error.status is None
    assert "pha_" not in str(error)
    assert error.__cause__ is None
    assert posthog.requests == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff"])
async def test_a_success_that_is_no_json_is_empty(
    http: httpx.AsyncClient, posthog: Recorder, body: bytes
) -> None:
    posthog.refuse("GET", "/api/projects/", 204 if not body else 200, body)
    project = await Projects(Transport(http, f"{posthog.url}///", "pha_a")).get(None)
    assert (project.id, project.api_token) == (None, None)
    (request,) = posthog.requests
    assert request.path == "/api/projects/@current/"
    assert request.headers["authorization"] == "Bearer pha_a"
    assert "content-type" not in request.headers


async def test_a_slow_answer_is_given_up(http: httpx.AsyncClient, posthog: Recorder) -> None:
    hanging = asyncio.Event()

    async def hang(_request: Recorded) -> None:
        await hanging.wait()

    posthog.before = hang
    with pytest.raises(PostHogError, match="did not answer within") as raised:
        await Transport(http, posthog.url, "pha_a").get("/api/x/", seconds=0.1)
    hanging.set()
    assert raised.value.status is None


async def test_an_endless_answer_is_given_up(
    http: httpx.AsyncClient, posthog: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)
    posthog.refuse("GET", "/api/x/", 200, ["x"] * 1000)
    assert "too large" in str(await refused(http, posthog))


async def test_a_past_events_properties_that_would_cost_much_are_left_out(
    http: httpx.AsyncClient, posthog: Recorder
) -> None:
    many = '{"a": [1e308' + ",1e308" * 10_000 + "]}"
    row = ["0199", "opened", "u_1", "2026-01-01T00:00:00Z", many, '{"plan": "free"}']
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    noon = datetime(2026, 1, 1, tzinfo=UTC)
    api = Transport(http, posthog.url, "pha_a")
    (event,) = (await Queries(api, "1").page(EventRange(since=noon, until=noon), 1)).events
    assert (event.properties, event.person_properties) == ({}, {"plan": "free"})


async def test_only_a_page_of_events_may_be_large(
    http: httpx.AsyncClient, posthog: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)
    row = ["0199", "opened", "u_1", "2026-01-01T00:00:00Z", "{}", json.dumps({"text": "x" * 2000})]
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    api = Transport(http, posthog.url, "pha_a")
    noon = datetime(2026, 1, 1, tzinfo=UTC)
    page = await Queries(api, "1").page(EventRange(since=noon, until=noon), 1)
    assert [event.uuid for event in page.events] == ["0199"]
    monkeypatch.setattr(queries, "MAX_RESPONSE_BYTES", 1000)
    with pytest.raises(PostHogResponseTooLarge):
        await Queries(api, "1").page(EventRange(since=noon, until=noon), 1)


async def test_properties_of_an_event_nested_too_deeply_are_left_out(
    http: httpx.AsyncClient, posthog: Recorder
) -> None:
    deep = '{"deep":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"
    row = ["0199", "opened", "u_1", "2026-01-01T00:00:00Z", deep, '{"plan":"pro"}']
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    (event,) = (await api.page(EventRange(since=NOON, until=NOON), 1)).events
    assert (event.properties, event.person_properties) == ({}, {"plan": "pro"})


@pytest.mark.parametrize(
    ("rows", "found"),
    [([], None), ([["2026-01-01T12:00:00Z", "0199"]], (NOON, "0199"))],
)
async def test_the_place_of_the_next_event_is_read_without_the_event(
    http: httpx.AsyncClient, posthog: Recorder, rows: list[list[str]], found: Any
) -> None:
    posthog.refuse("POST", "/api/.*", 200, {"results": rows})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    assert await api.next_position(EventRange(since=NOON, until=NOON)) == found


@pytest.mark.parametrize("row", [None, [], ["0199"], ["soon", "0199"], ["2026-01-01", ""]])
async def test_an_odd_place_of_the_next_event_is_an_error(
    http: httpx.AsyncClient, posthog: Recorder, row: Any
) -> None:
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    with pytest.raises(PostHogError, match="not the place of an event"):
        await api.next_position(EventRange(since=NOON, until=NOON))


async def test_odd_ids_stay_one_path_segment(http: httpx.AsyncClient, posthog: Recorder) -> None:
    await Projects(Transport(http, posthog.url, "pha_a")).get("../4242?x=1#y")
    # As the server reads it: not a query, not a fragment, not a way up.
    assert posthog.lines() == ["GET /api/projects/../4242?x=1#y/"]
