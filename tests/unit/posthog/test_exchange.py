"""One request to PostHog: what its failures say, and what they never say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from hogsend.posthog.capture import CaptureApi, CaptureError
from hogsend.posthog.errors import PostHogError, PostHogTimeout
from hogsend.posthog.exchange import exchange
from hogsend.posthog.flags import FlagsApi, FlagsRequest
from hogsend.service.ssrf import AddressRefused

HOST = "https://posthog.example"
KEY = "phc_secret"
FLAGS = FlagsRequest(
    token=KEY,
    distinct_id="u_1",
    groups={},
    person_properties={},
    group_properties={},
    geoip_disable=True,
)


def raising(error: Exception) -> httpx.AsyncClient:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def answering(*answers: httpx.Response) -> httpx.AsyncClient:
    remaining = list(answers)
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: remaining.pop(0)))


async def failure(http: httpx.AsyncClient, *, seconds: float = 5, max_bytes: int = 10) -> str:
    with pytest.raises(PostHogError) as raised:
        await exchange(
            http, "GET", HOST, headers={}, content=None, seconds=seconds, max_bytes=max_bytes
        )
    assert raised.value.status is None
    assert raised.value.__cause__ is None
    return str(raised.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("no route to host"), "PostHog cannot be reached: no route to host"),
        (httpx.ConnectError(""), "PostHog cannot be reached: ConnectError"),
        (httpx.LocalProtocolError(KEY), "PostHog cannot be reached (LocalProtocolError)"),
        (httpx.ReadError(KEY), "PostHog cannot be reached (ReadError)"),
        (httpx.InvalidURL(KEY), "PostHog cannot be reached (InvalidURL)"),
        (ValueError(KEY), "PostHog cannot be reached (ValueError)"),
    ],
)
async def test_only_a_failed_connection_is_quoted(error: Exception, said: str) -> None:
    assert await failure(raising(error)) == said


async def test_a_long_reason_is_cut() -> None:
    assert len(await failure(raising(httpx.ConnectError("x" * 5000)))) < 300


async def test_an_answer_that_is_too_large_is_not_read() -> None:
    assert "too large" in await failure(answering(httpx.Response(200, content=b"x" * 11)))


async def test_an_answer_that_takes_too_long_is_a_timeout() -> None:
    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    http = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    with pytest.raises(PostHogTimeout, match=r"did not answer within 0\.01 s"):
        await exchange(http, "GET", HOST, headers={}, content=None, seconds=0.01, max_bytes=10)
    with pytest.raises(CaptureError, match=r"^Timeout after 10ms$") as raised:
        await CaptureApi(http, seconds=0.01).send(HOST, KEY, [b"{}"])
    assert raised.value.is_retryable


async def capture(http: httpx.AsyncClient) -> None:
    await CaptureApi(http, seconds=5).send(HOST, KEY, [b"{}"])


async def evaluate_flags(http: httpx.AsyncClient) -> None:
    await FlagsApi(http).evaluate(HOST, FLAGS)


@pytest.mark.parametrize("request_of", [capture, evaluate_flags])
async def test_an_address_that_may_not_be_called_is_named_with_the_setting(
    request_of: Callable[[httpx.AsyncClient], Awaitable[None]],
) -> None:
    with pytest.raises(PostHogError, match=r"10\.0\.0\.1 .*OUTBOUND_ALLOW") as raised:
        await request_of(raising(AddressRefused("10.0.0.1")))
    assert raised.value.status is None


@pytest.mark.parametrize(
    ("status", "is_retryable", "about_content"),
    [
        (400, False, True),
        (401, False, False),
        (408, True, False),
        (413, False, True),
        (429, True, False),
        (500, True, False),
    ],
)
async def test_a_refused_batch_says_whether_it_may_pass_later(
    status: int, is_retryable: bool, about_content: bool
) -> None:
    answer = httpx.Response(status, text=f"no {KEY}", headers={"Retry-After": "7"})
    with pytest.raises(CaptureError) as raised:
        await capture(answering(answer))
    error = raised.value
    assert (error.is_retryable, error.is_about_content) == (is_retryable, about_content)
    assert (error.status, error.retry_after) == (status, 7.0)
    assert str(error) == f"HTTP {status}: no ***"


async def test_a_refused_evaluation_carries_its_status_and_no_key() -> None:
    with pytest.raises(PostHogError) as raised:
        await evaluate_flags(answering(httpx.Response(401, text=KEY)))
    assert (raised.value.status, str(raised.value)) == (401, "PostHog answered 401")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
async def test_an_answer_without_flags_is_an_error(content: bytes) -> None:
    with pytest.raises(PostHogError, match="did not answer with flags"):
        await evaluate_flags(answering(httpx.Response(200, content=content)))


class Moved:
    """A PostHog that answers every path but `/here` with a redirect."""

    def __init__(self, status: int, *locations: str) -> None:
        self.status = status
        self.locations = list(locations)
        self.seen: list[tuple[str, str, str | None, bytes]] = []

    async def ask(self, url: str = f"{HOST}/old/?a=1") -> int:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self._answer)) as http:
            headers = {"Authorization": "Bearer b"}
            answer = await exchange(
                http, "POST", url, headers=headers, content=b"body", seconds=5, max_bytes=100
            )
        return answer.status

    def _answer(self, request: httpx.Request) -> httpx.Response:
        bearer = request.headers.get("Authorization")
        self.seen.append((request.method, str(request.url), bearer, request.content))
        if not self.locations:
            return httpx.Response(200)
        return httpx.Response(self.status, headers={"Location": self.locations.pop(0)})


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/new?a=1", "../new?a=1", f"{HOST}:443/new?a=1"])
async def test_a_redirect_within_the_origin_is_followed_with_bearer_and_body(
    status: int, location: str
) -> None:
    posthog = Moved(status, location)
    assert await posthog.ask() == 200
    method, url, bearer, body = posthog.seen[-1]
    assert (method, bearer, body) == ("POST", "Bearer b", b"body")
    assert httpx.URL(url) == httpx.URL(f"{HOST}/new?a=1")


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "https://elsewhere.example/new"),
        (308, "//elsewhere.example/new"),
        (307, "http://posthog.example/new"),
        (308, "https://posthog.example:8443/new"),
        (307, "https://posthog.example.evil.example/new"),
        (307, "https://user@posthog.example/new"),
        (301, "/new"),
        (302, "/login?next=/old/"),
        (303, "/new"),
        (307, ""),
    ],
)
async def test_any_other_redirect_is_an_answer_and_the_bearer_stays(
    status: int, location: str
) -> None:
    posthog = Moved(status, location)
    assert await posthog.ask() == status
    assert len(posthog.seen) == 1


async def test_redirects_end() -> None:
    posthog = Moved(307, *(["/again"] * 10))
    with pytest.raises(PostHogError, match="more than 3 times"):
        await posthog.ask()
    assert len(posthog.seen) == 4


async def test_a_delivery_that_is_sent_elsewhere_says_so() -> None:
    away = httpx.Response(308, headers={"Location": "https://elsewhere.example/batch"})
    with pytest.raises(CaptureError, match=r"^HTTP 308: a redirect to another address"):
        await capture(answering(away))
