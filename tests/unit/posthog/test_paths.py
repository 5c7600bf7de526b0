"""Every request about a project is below `/api/projects/`, which every PostHog has (spec C1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from hogsend.posthog.api import HogFunctions, Persons, PostHogError, Projects, Queries, Transport
from hogsend.posthog.api.queries import EventRange

THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("area", [HogFunctions, Persons, Projects, Queries])
async def test_every_request_about_a_project_has_a_path_below_projects(area: type[object]) -> None:
    paths: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as http:
        transport = Transport(http, "https://posthog.example.com", "token")
        calls: dict[type[object], Callable[[], Awaitable[object]]] = {
            HogFunctions: lambda: HogFunctions(transport, "7").destinations(),
            Persons: lambda: Persons(transport, "7").properties("u_1"),
            Projects: lambda: Projects(transport).get("7"),
            Queries: lambda: Queries(transport, "7").count(EventRange(since=THEN, until=THEN)),
        }
        with pytest.raises(PostHogError):
            await calls[area]()
    assert [path.partition("/7/")[0] for path in paths] == ["/api/projects"]
