"""A request that was one too many waits as long as PostHog asks for, if that is short enough."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from hogsend.posthog.api import PostHogError, Transport
from tests.virtual_time import now, on_virtual_time


class Body(msgspec.Struct):
    name: str = "x"


def transport(answers: list[httpx.Response], asked: list[str], **options: Any) -> Transport:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.content.decode()}")
        return answers.pop(0)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Transport(http, "https://posthog.test", "pha_1", **options)


def limited(seconds: str | None, status: int = 429) -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": seconds} if seconds else {}, json={})


FOUND = httpx.Response(200, json={"id": 1})


@on_virtual_time
async def test_a_short_wait_is_waited_for_once() -> None:
    asked: list[str] = []
    patient = transport([limited("3"), FOUND], asked, max_wait=5.0)
    started = now()
    assert await patient.post("/api/x/", Body()) == {"id": 1}
    assert asked == ['POST {"name":"x"}'] * 2
    assert now() - started == 3.0


@on_virtual_time
@pytest.mark.parametrize(
    ("answers", "max_wait", "told"),
    [
        ([limited("6")], 5.0, 6.0),
        ([limited(None)], 5.0, None),
        ([limited("3")], 0.0, 3.0),
        # What failed may have been done.
        ([limited("3", status=503)], 5.0, 3.0),
        ([limited("3"), limited("4")], 5.0, 4.0),
    ],
)
async def test_any_other_wait_is_told(
    answers: list[httpx.Response], max_wait: float, told: float | None
) -> None:
    asked: list[str] = []
    impatient = transport(list(answers), asked, max_wait=max_wait)
    with pytest.raises(PostHogError) as refused:
        await impatient.get("/api/x/")
    assert refused.value.retry_after == told
    assert len(asked) == len(answers)
