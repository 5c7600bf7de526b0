"""PostHog's private API over HTTP: requests, responses, and the texts of errors."""

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


async def error_of(http: httpx.AsyncClient, posthog: Recorder, bearer: str = "pha_a") -> Any:
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
async def test_an_error_has_the_detail_of_posthogs_response(
    http: httpx.AsyncClient, posthog: Recorder, body: Any, detail: str
) -> None:
    posthog.refuse("GET", "/api/x/", 400, body)
    error = await error_of(http, posthog)
    assert (error.status, error.detail) == (400, detail)


@pytest.mark.parametrize(("received", "code"), [("too_many_bytes", "too_many_bytes"), (7, None)])
async def test_an_error_has_the_code_of_posthogs_response(
    http: httpx.AsyncClient, posthog: Recorder, received: Any, code: str | None
) -> None:
    posthog.refuse("GET", "/api/x/", 400, {"detail": "No.", "code": received})
    assert (await error_of(http, posthog)).code == code


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_error_contains_no_part_of_a_secret(
    http: httpx.AsyncClient, posthog: Recorder, status: int
) -> None:
    posthog.refuse("GET", "/api/x/", status, {"detail": "x" * 190 + " pha_secret s3cret"})
    error = await error_of(http, posthog, "pha_secret")
    for part in ("pha", "s3c"):
        assert part not in str(error)


@pytest.mark.parametrize("bearer", ["pha_ä", "pha_a\r\nX-Evil: 1", "pha_\x00"])
async def test_a_bearer_token_that_is_invalid_in_a_header_is_not_quoted(
    http: httpx.AsyncClient, posthog: Recorder, bearer: str
) -> None:
    error = await error_of(http, posthog, bearer)
    assert error.status is None
    assert "pha_" not in str(error)
    assert error.__cause__ is None
    assert posthog.requests == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff"])
async def test_a_successful_response_without_json_is_read_as_empty(
    http: httpx.AsyncClient, posthog: Recorder, body: bytes
) -> None:
    posthog.refuse("GET", "/api/projects/", 204 if not body else 200, body)
    project = await Projects(Transport(http, f"{posthog.url}///", "pha_a")).get(None)
    assert (project.id, project.api_token) == (None, None)
    (request,) = posthog.requests
    assert request.path == "/api/projects/@current/"
    assert request.headers["authorization"] == "Bearer pha_a"
    assert "content-type" not in request.headers


async def test_a_slow_response_raises_an_error(http: httpx.AsyncClient, posthog: Recorder) -> None:
    may_respond = asyncio.Event()

    async def wait(_request: Recorded) -> None:
        await may_respond.wait()

    posthog.before = wait
    with pytest.raises(PostHogError, match="did not answer within") as raised:
        await Transport(http, posthog.url, "pha_a").get("/api/x/", seconds=0.1)
    may_respond.set()
    assert raised.value.status is None


async def test_a_response_that_is_too_large_raises_an_error(
    http: httpx.AsyncClient, posthog: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)
    posthog.refuse("GET", "/api/x/", 200, ["x"] * 1000)
    assert "too large" in str(await error_of(http, posthog))


async def test_properties_of_a_past_event_with_too_many_large_numbers_are_omitted(
    http: httpx.AsyncClient, posthog: Recorder
) -> None:
    many = '{"a": [1e308' + ",1e308" * 10_000 + "]}"
    row = ["0199", "opened", "u_1", "2026-01-01T00:00:00Z", many, '{"plan": "free"}']
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    noon = datetime(2026, 1, 1, tzinfo=UTC)
    api = Transport(http, posthog.url, "pha_a")
    (event,) = (await Queries(api, "1").page(EventRange(since=noon, until=noon), 1)).events
    assert (event.properties, event.person_properties) == ({}, {"plan": "free"})


async def test_a_page_of_events_has_a_higher_size_limit_than_other_responses(
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


async def test_properties_of_a_past_event_that_are_nested_too_deeply_are_omitted(
    http: httpx.AsyncClient, posthog: Recorder
) -> None:
    deep = '{"deep":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"
    row = ["0199", "opened", "u_1", "2026-01-01T00:00:00Z", deep, '{"plan":"pro"}']
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    (event,) = (await api.page(EventRange(since=NOON, until=NOON), 1)).events
    assert (event.properties, event.person_properties) == ({}, {"plan": "pro"})


@pytest.mark.parametrize(
    ("rows", "position"),
    [([], None), ([["2026-01-01T12:00:00Z", "0199"]], (NOON, "0199"))],
)
async def test_the_position_of_the_next_event_is_read_without_the_event(
    http: httpx.AsyncClient, posthog: Recorder, rows: list[list[str]], position: Any
) -> None:
    posthog.refuse("POST", "/api/.*", 200, {"results": rows})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    assert await api.next_position(EventRange(since=NOON, until=NOON)) == position


@pytest.mark.parametrize("row", [None, [], ["0199"], ["soon", "0199"], ["2026-01-01", ""]])
async def test_a_malformed_position_of_the_next_event_raises_an_error(
    http: httpx.AsyncClient, posthog: Recorder, row: Any
) -> None:
    posthog.refuse("POST", "/api/.*", 200, {"results": [row]})
    api = Queries(Transport(http, posthog.url, "pha_a"), "1")
    with pytest.raises(PostHogError, match="not the place of an event"):
        await api.next_position(EventRange(since=NOON, until=NOON))


async def test_a_project_id_is_escaped_to_one_path_segment(
    http: httpx.AsyncClient, posthog: Recorder
) -> None:
    await Projects(Transport(http, posthog.url, "pha_a")).get("../4242?x=1#y")
    # The path as the server decodes it: no query, no fragment, no parent directory.
    assert posthog.lines() == ["GET /api/projects/../4242?x=1#y/"]
