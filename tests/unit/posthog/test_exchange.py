"""Errors of requests to PostHog state the reason and contain no key; redirects keep the origin."""

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


def client_raising(error: Exception) -> httpx.AsyncClient:
    def respond(_request: httpx.Request) -> httpx.Response:
        raise error

    return httpx.AsyncClient(transport=httpx.MockTransport(respond))


def client_returning(*responses: httpx.Response) -> httpx.AsyncClient:
    remaining = list(responses)
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
    ("error", "message"),
    [
        (httpx.ConnectError("no route to host"), "PostHog cannot be reached: no route to host"),
        (httpx.ConnectError(""), "PostHog cannot be reached: ConnectError"),
        (httpx.LocalProtocolError(KEY), "PostHog cannot be reached (LocalProtocolError)"),
        (httpx.ReadError(KEY), "PostHog cannot be reached (ReadError)"),
        (httpx.InvalidURL(KEY), "PostHog cannot be reached (InvalidURL)"),
        (ValueError(KEY), "PostHog cannot be reached (ValueError)"),
    ],
)
async def test_only_the_reason_of_a_failed_connection_is_quoted(
    error: Exception, message: str
) -> None:
    assert await failure(client_raising(error)) == message


async def test_a_long_reason_is_truncated() -> None:
    assert len(await failure(client_raising(httpx.ConnectError("x" * 5000)))) < 300


async def test_a_response_that_is_too_large_is_not_read() -> None:
    assert "too large" in await failure(client_returning(httpx.Response(200, content=b"x" * 11)))


async def test_a_response_that_takes_too_long_is_a_timeout() -> None:
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
async def test_the_error_for_a_forbidden_address_names_the_address_and_the_setting(
    request_of: Callable[[httpx.AsyncClient], Awaitable[None]],
) -> None:
    with pytest.raises(PostHogError, match=r"10\.0\.0\.1 .*OUTBOUND_ALLOW") as raised:
        await request_of(client_raising(AddressRefused("10.0.0.1")))
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
async def test_the_error_of_a_refused_batch_states_whether_a_retry_may_succeed(
    status: int, is_retryable: bool, about_content: bool
) -> None:
    response = httpx.Response(status, text=f"no {KEY}", headers={"Retry-After": "7"})
    with pytest.raises(CaptureError) as raised:
        await capture(client_returning(response))
    error = raised.value
    assert (error.is_retryable, error.is_about_content) == (is_retryable, about_content)
    assert (error.status, error.retry_after) == (status, 7.0)
    assert str(error) == f"HTTP {status}: no ***"


async def test_the_error_of_a_refused_evaluation_has_its_status_and_no_key() -> None:
    with pytest.raises(PostHogError) as raised:
        await evaluate_flags(client_returning(httpx.Response(401, text=KEY)))
    assert (raised.value.status, str(raised.value)) == (401, "PostHog answered 401")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
async def test_a_response_without_flags_is_an_error(content: bytes) -> None:
    with pytest.raises(PostHogError, match="did not answer with flags"):
        await evaluate_flags(client_returning(httpx.Response(200, content=content)))


class RedirectingPostHog:
    """A PostHog that redirects to each of `locations` in turn, and then responds with 200."""

    def __init__(self, status: int, *locations: str) -> None:
        self.status = status
        self.locations = list(locations)
        self.requests: list[tuple[str, str, str | None, bytes]] = []

    async def post(self, url: str = f"{HOST}/old/?a=1") -> int:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self._respond)) as http:
            headers = {"Authorization": "Bearer b"}
            response = await exchange(
                http, "POST", url, headers=headers, content=b"body", seconds=5, max_bytes=100
            )
        return response.status

    def _respond(self, request: httpx.Request) -> httpx.Response:
        bearer = request.headers.get("Authorization")
        self.requests.append((request.method, str(request.url), bearer, request.content))
        if not self.locations:
            return httpx.Response(200)
        return httpx.Response(self.status, headers={"Location": self.locations.pop(0)})


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/new?a=1", "../new?a=1", f"{HOST}:443/new?a=1"])
async def test_a_redirect_within_the_origin_is_followed_with_bearer_and_body(
    status: int, location: str
) -> None:
    posthog = RedirectingPostHog(status, location)
    assert await posthog.post() == 200
    method, url, bearer, body = posthog.requests[-1]
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
async def test_any_other_redirect_is_not_followed_and_the_bearer_is_not_sent_elsewhere(
    status: int, location: str
) -> None:
    posthog = RedirectingPostHog(status, location)
    assert await posthog.post() == status
    assert len(posthog.requests) == 1


async def test_more_than_three_redirects_are_an_error() -> None:
    posthog = RedirectingPostHog(307, *(["/again"] * 10))
    with pytest.raises(PostHogError, match="more than 3 times"):
        await posthog.post()
    assert len(posthog.requests) == 4


async def test_the_error_of_a_delivery_that_is_redirected_to_another_address_states_so() -> None:
    redirect = httpx.Response(308, headers={"Location": "https://elsewhere.example/batch"})
    with pytest.raises(CaptureError, match=r"^HTTP 308: a redirect to another address"):
        await capture(client_returning(redirect))
