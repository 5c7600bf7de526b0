"""A rate-limited request is retried once after `Retry-After`, if that is short enough."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from hogsend.posthog.api import PostHogError, Transport
from tests.virtual_time import now, on_virtual_time


class Body(msgspec.Struct):
    name: str = "x"


def transport(responses: list[httpx.Response], requests: list[str], **options: Any) -> Transport:
    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(f"{request.method} {request.content.decode()}")
        return responses.pop(0)

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    return Transport(http, "https://posthog.test", "pha_1", **options)


def limited(seconds: str | None, status: int = 429) -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": seconds} if seconds else {}, json={})


FOUND = httpx.Response(200, json={"id": 1})


@on_virtual_time
async def test_a_rate_limited_request_is_retried_after_a_short_wait() -> None:
    requests: list[str] = []
    patient = transport([limited("3"), FOUND], requests, max_wait=5.0)
    started = now()
    assert await patient.post("/api/x/", Body()) == {"id": 1}
    assert requests == ['POST {"name":"x"}'] * 2
    assert now() - started == 3.0


@on_virtual_time
@pytest.mark.parametrize(
    ("responses", "max_wait", "retry_after"),
    [
        ([limited("6")], 5.0, 6.0),
        ([limited(None)], 5.0, None),
        ([limited("3")], 0.0, 3.0),
        # A request that failed with 503 may have had an effect, so it is not repeated.
        ([limited("3", status=503)], 5.0, 3.0),
        ([limited("3"), limited("4")], 5.0, 4.0),
    ],
)
async def test_any_other_wait_is_reported_in_the_error(
    responses: list[httpx.Response], max_wait: float, retry_after: float | None
) -> None:
    requests: list[str] = []
    impatient = transport(list(responses), requests, max_wait=max_wait)
    with pytest.raises(PostHogError) as refused:
        await impatient.get("/api/x/")
    assert refused.value.retry_after == retry_after
    assert len(requests) == len(responses)
