"""Destinations over PostHog's private API: pages, malformed responses, and the requested host."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hogsend.posthog.api import FunctionSummary, HogFunctions, Transport
from hogsend.posthog.api.hog_functions import MAX_PAGES, WatcherState
from hogsend.posthog.errors import PostHogError
from tests.destinations import compliant
from tests.posthog_recorder import Recorder

COLLECTION = "/api/projects/4242/hog_functions/"
LIST = f"GET {COLLECTION}?type=destination&limit=100"
NO_NUMBERS: tuple[object, ...] = (True, "1", [1], {}, None)


@pytest.fixture
def posthog() -> Recorder:
    return Recorder()


def functions(
    posthog: Recorder, project_id: str = "4242", host: str = "https://posthog.example"
) -> HogFunctions:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(posthog))
    return HogFunctions(Transport(http, host, "pha_a"), project_id)


async def test_all_pages_are_read_in_order(posthog: Recorder) -> None:
    posthog.page_size = 2
    for number in range(5):
        posthog.add(f"fn{number}", name=f"name {number}")
    listed = await functions(posthog).destinations()
    assert listed == [FunctionSummary(f"fn{number}", f"name {number}") for number in range(5)]
    assert posthog.lines() == [LIST, f"{LIST}&offset=2", f"{LIST}&offset=4"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"state": 3}, WatcherState.DISABLED),
        ({"state": 99}, WatcherState.UNKNOWN),
        *(({"state": state}, WatcherState.UNKNOWN) for state in NO_NUMBERS),
        (None, WatcherState.UNKNOWN),
        ([3], WatcherState.UNKNOWN),
    ],
)
async def test_a_state_that_is_no_known_number_is_unknown(
    status: object, expected: WatcherState
) -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": "fn", "status": status, "template": None})

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    function = await HogFunctions(Transport(http, "https://posthog.example", "pha_a"), "1").get(
        "fn"
    )
    assert (function.watcher_state, function.template) == (expected, None)


async def test_at_most_twenty_pages_are_read(posthog: Recorder) -> None:
    posthog.page_size = 1
    for number in range(30):
        posthog.add(f"fn{number}")
    assert len(await functions(posthog).destinations()) == len(posthog.requests) == MAX_PAGES == 20


async def test_the_next_page_is_requested_from_the_configured_host(posthog: Recorder) -> None:
    hosts: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        following = "https://elsewhere.example//evil.example/x?limit=100&offset=100"
        return httpx.Response(
            200, json={"results": [], "next": None if len(hosts) > 1 else following}
        )

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    await HogFunctions(Transport(http, "https://posthog.example", "pha_a"), "1").destinations()
    assert hosts == ["posthog.example"] * 2


@pytest.mark.parametrize(
    ("following", "path"),
    [
        ("https://x.example//evil.example/x?limit=1", "/evil.example/x?limit=1"),
        ("https://x.example/prefix/api/y/", "/api/y/"),
        ("https://x.example/prefixed/y", "/prefixed/y"),
        ("?offset=100", "/?offset=100"),
        ("api/y", "/api/y"),
    ],
)
def test_only_path_and_query_of_the_next_pages_url_are_used(following: str, path: str) -> None:
    transport = Transport(httpx.AsyncClient(), "https://posthog.example/prefix/", "pha_a")
    assert transport.path_on_host(following) == path


async def test_a_next_page_that_is_not_a_url_is_an_error(posthog: Recorder) -> None:
    page = {"results": [], "next": "https://[bad"}
    posthog.refuse("GET", r"hog_functions/\?", 200, page)
    with pytest.raises(PostHogError, match="not a URL"):
        await functions(posthog).destinations()


@pytest.mark.parametrize("following", [None, "", 3, [], {}])
async def test_a_list_ends_when_the_next_page_is_no_text(posthog: Recorder, following: Any) -> None:
    posthog.refuse("GET", r"hog_functions/\?", 200, {"results": [], "next": following})
    assert await functions(posthog).destinations() == []
    assert len(posthog.requests) == 1


async def test_malformed_entries_of_a_list_are_skipped(posthog: Recorder) -> None:
    entries: list[Any] = [
        *(None, 7, [], {"name": "no id"}),
        *({"id": None, "name": "hogsend"}, {"id": True}, {"id": ""}),
        {"id": "t", "type": "transformation", "name": "hogsend"},
        {"id": 7, "name": None},
        {"id": "fn", "type": None, "name": "kept"},
    ]
    posthog.refuse("GET", r"hog_functions/\?", 200, {"results": entries})
    assert await functions(posthog).destinations() == [
        FunctionSummary("7", ""),
        FunctionSummary("fn", "kept"),
    ]


@pytest.mark.parametrize("content", [b"", b"<html>", [], "x", {"results": "x"}, {"results": None}])
async def test_a_malformed_list_counts_as_empty(posthog: Recorder, content: Any) -> None:
    posthog.refuse("GET", r"hog_functions/\?", 200, content)
    assert await functions(posthog).destinations() == []


async def test_a_destination_is_read_in_full(posthog: Recorder) -> None:
    posthog.add("fn", **compliant())
    function = await functions(posthog).get("fn")
    assert (function.id, function.enabled) == ("fn", True)
    assert function.input("method") == "POST"
    assert function.input("missing") is None
    assert function.filters == compliant()["filters"]


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        [],
        {"enabled": "yes", "inputs": [], "inputs_schema": {}, "filters": None},
        {"enabled": 1, "inputs": {"url": "x"}},
    ],
)
async def test_a_malformed_destination_counts_as_empty(posthog: Recorder, odd: Any) -> None:
    posthog.refuse("GET", "fn/", 200, odd)
    function = await functions(posthog).get("fn")
    assert (function.enabled, function.inputs_schema, function.filters) == (False, [], {})
    assert function.input("url") is None


@pytest.mark.parametrize(("id", "expected"), [("fn", "fn"), (7, "7"), (None, None), (True, None)])
async def test_a_created_destination_has_the_id_that_posthog_returns(
    posthog: Recorder, id: Any, expected: str | None
) -> None:
    posthog.refuse("POST", "hog_functions", 201, {"id": id})
    # The body does not matter here.
    created = await functions(posthog).create(FunctionSummary("", ""))  # type: ignore[arg-type]
    assert (created.id if created else None) == expected


async def test_an_id_with_special_characters_is_one_path_segment() -> None:
    paths: list[bytes] = []

    def respond(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(200, json={})

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    transport = Transport(http, "https://posthog.example", "pha_a")
    await HogFunctions(transport, "../1?x#y").get("a/../b?c#d")
    assert paths == [b"/api/projects/..%2F1%3Fx%23y/hog_functions/a%2F..%2Fb%3Fc%23d/"]
