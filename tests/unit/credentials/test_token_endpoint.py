"""The refresh request, and every kind of response. Acceptance cases 79 to 81."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from hogsend.contract.credentials import CREDENTIALS_TOKEN, OAuthPayload
from hogsend.service.ssrf import AddressRefused
from services.credentials.token_endpoint import (
    MAX_BODY_BYTES,
    TIMEOUT_SECONDS,
    RefreshFailed,
    TokenEndpoint,
)
from tests.unit.credentials.conftest import Driver, Replica
from tests.unit.credentials.fakes import Clock, make_grant

CLOCK = Clock()
GRANT = make_grant(CLOCK, left=-5)
DEEP = b"[" * 30_000 + b"]" * 30_000
NESTED = b'{"access_token":"a","error":"invalid_grant","scope":%b}' % DEEP
"""Nested deeper than Python's parser accepts."""


class Server:
    """Returns the same response to every request, and records the requests."""

    def __init__(self, status: int = 200, response: dict[str, Any] | bytes = b"") -> None:
        self.status = status
        self.response = response
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.response, bytes):
            headers = (
                {"Location": "https://elsewhere.example/"} if self.status in {302, 307, 308} else {}
            )
            return httpx.Response(self.status, content=self.response, headers=headers)
        return httpx.Response(self.status, json=self.response)


async def renew(handler: Any) -> OAuthPayload:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        return await TokenEndpoint(http).renew(GRANT, CLOCK())


async def test_case_79_the_refresh_is_one_form_without_authorization() -> None:
    server = Server(response={"access_token": "pha_1", "expires_in": 3600})
    await renew(server)
    (request,) = server.requests
    assert (request.method, str(request.url)) == ("POST", GRANT.token_endpoint)
    assert dict(parse_qsl(request.content.decode())) == {
        "grant_type": "refresh_token",
        "refresh_token": "phr_0",
        "client_id": GRANT.client_id,
    }
    assert "authorization" not in request.headers
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_case_80_fields_of_the_response_are_used() -> None:
    server = Server(
        response={
            "access_token": "pha_new",
            "refresh_token": "phr_new",
            "expires_in": 7200,
            "scope": "person:read person:write",
            "scoped_teams": [7],
            "scoped_organizations": ["o"],
        }
    )
    assert await renew(server) == make_grant(
        CLOCK,
        left=7200,
        access_token="pha_new",
        refresh_token="phr_new",
        scopes=["person:read", "person:write"],
        scoped_teams=[7],
        scoped_organizations=["o"],
    )


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"scoped_teams": ["x"], "scope": 5, "refresh_token": None},
        {"scoped_teams": [True], "scope": "", "refresh_token": ""},
    ],
)
async def test_case_81_missing_fields_of_the_response_are_kept(extra: dict[str, Any]) -> None:
    server = Server(response={"access_token": "pha_new", "expires_in": 60.5, **extra})
    assert await renew(server) == make_grant(CLOCK, left=60.5, access_token="pha_new")


async def test_the_lifetime_of_the_token_starts_with_the_request() -> None:
    renewed = await renew(Server(response={"access_token": "a", "expires_in": 3600}))
    assert renewed.expires_at == CLOCK.now + timedelta(hours=1)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (b"59", 59),
        (b"1", 1),
        (b"0", 0),
        (b"-1", 0),
        (b"60.5", 60.5),
        (b'"7200"', 7200),
        (b"null", 3600),
        (b'"soon"', 3600),
        (b"true", 3600),
        (b"[]", 3600),
        (b"1e999", 3600),
        (b'"nan"', 3600),
        (b"1e300", 365 * 86_400),
        (b"99999999999", 365 * 86_400),
    ],
)
async def test_an_odd_lifetime_never_loses_the_rotated_token(
    expires_in: bytes, seconds: float
) -> None:
    body = b'{"access_token":"pha_1","refresh_token":"phr_1","expires_in":' + expires_in + b"}"
    renewed = await renew(Server(response=body))
    assert (renewed.access_token, renewed.refresh_token) == ("pha_1", "phr_1")
    assert renewed.expires_at == CLOCK.now + timedelta(seconds=seconds)


async def test_a_deeply_nested_response_is_a_failed_refresh(
    driver: Driver, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(response=NESTED)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        monkeypatch.setattr(driver.endpoint, "renew", TokenEndpoint(http).renew)
        await driver.put(driver.grant(left=59))
        await replica.refresher.refresh_due()
        assert (await replica.token()).token == "pha_0"
    assert len(server.requests) == 1


async def test_a_token_without_lifetime_is_assumed_to_live_an_hour() -> None:
    renewed = await renew(Server(response={"access_token": "a"}))
    assert renewed.expires_at == CLOCK.now + timedelta(hours=1)


@pytest.mark.parametrize(
    ("status", "response", "reason"),
    [
        (302, b"", "HTTP 302"),
        (500, b"<html>", "HTTP 500"),
        (400, {"error": "phr_0"}, "HTTP 400"),
        (400, {"error": "phr_abcdefghijklmnop"}, "HTTP 400"),
        (400, {"error": "x" * 41}, "HTTP 400"),
        (400, ["invalid_grant"], "HTTP 400"),
        (400, b"\xff", "HTTP 400"),
        pytest.param(400, NESTED, "HTTP 400", id="nested refusal"),
        (400, {"error": "invalid_client"}, "invalid_client"),
        (400, {"error": "invalid_grant"}, "invalid_grant"),
        (200, b"nonsense", "an answer without"),
        (200, b"\xff", "an answer without"),
        pytest.param(200, NESTED, "an answer without", id="nested"),
        (200, {"expires_in": 5}, "an answer without"),
        (200, {"access_token": "", "expires_in": 5}, "an answer without"),
        (200, {"access_token": "pha_1\r\nX: y", "expires_in": 5}, "an answer without"),
        (200, {"access_token": "pha_\u00e4", "expires_in": 5}, "an answer without"),
        (307, b"", "HTTP 307"),
        (308, b"", "HTTP 308"),
        (200, b"x" * 1_000_000, "an answer without"),
    ],
)
async def test_a_malformed_response_is_a_failure_without_a_token_in_it(
    status: int, response: Any, reason: str
) -> None:
    server = Server(status, response)
    with pytest.raises(RefreshFailed, match=reason) as failure:
        await renew(server)
    assert len(server.requests) == 1
    for token in ("pha_", "phr_"):
        assert token not in str(failure.value)
    assert failure.value.needs_reconnect == (reason in {"invalid_grant", "invalid_client"})


ELSEWHERE = [
    "https://elsewhere.example/oauth/token/",
    "http://eu.posthog.com/oauth/token",
    "https://eu.posthog.com:8443/oauth/token",
    "https://me@eu.posthog.com/oauth/token",
    "//elsewhere.example/oauth/token",
]


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/oauth/token", f"{GRANT.token_endpoint}new/"])
async def test_a_redirect_within_the_origin_is_followed_with_the_same_form(
    status: int, location: str
) -> None:
    requests: list[httpx.Request] = []

    def moved(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if len(requests) == 1:
            return httpx.Response(status, headers={"Location": location})
        return httpx.Response(200, json={"access_token": "pha_1", "expires_in": 3600})

    assert (await renew(moved)).access_token == "pha_1"
    first, second = requests
    assert second.method == "POST"
    assert second.content == first.content
    assert str(second.url) == str(first.url.join(location))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", [*ELSEWHERE, GRANT.token_endpoint])
async def test_other_redirects_and_redirect_loops_are_not_followed(
    status: int, location: str
) -> None:
    urls: list[str] = []

    def moved(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(status, headers={"Location": location})

    followed = status in {307, 308} and location == GRANT.token_endpoint
    with pytest.raises(
        RefreshFailed, match="TooManyRedirects" if followed else f"HTTP {status}"
    ) as failure:
        await renew(moved)
    assert not failure.value.response_lost
    assert urls == [GRANT.token_endpoint] * (4 if followed else 1)


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "90", 90.0),
        (503, "7", 7.0),
        (429, "999999", 3600.0),
        (429, "Mon, 01 Jan 2147483648 00:00:00 GMT", None),
        (429, "-1", None),
        (429, None, None),
    ],
)
async def test_the_retry_after_of_the_endpoint_is_reported(
    status: int, header: str | None, seconds: float | None
) -> None:
    def limit(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Retry-After": header} if header else {})

    with pytest.raises(RefreshFailed) as failure:
        await renew(limit)
    assert failure.value.retry_after == seconds
    assert not failure.value.response_lost


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("phr_0"), "no answer (ConnectError)"),
        (httpx.ReadTimeout("phr_0"), "no answer (ReadTimeout)"),
        (httpx.InvalidURL("phr_0"), "no answer (InvalidURL)"),
        (AddressRefused("10.0.0.1"), "10.0.0.1 is not at a public address"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_endpoint_that_does_not_respond_is_a_failure(
    error: Exception, reason: str
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(RefreshFailed) as failure:
        await renew(fail)
    assert str(failure.value).startswith(reason)
    assert not failure.value.needs_reconnect


@pytest.mark.parametrize(
    ("response", "lost"),
    [
        (httpx.ReadTimeout(""), True),
        (httpx.ReadError(""), True),
        (httpx.WriteError(""), True),
        (httpx.RemoteProtocolError(""), True),
        (httpx.DecodingError(""), True),
        (TimeoutError(), True),
        (httpx.ConnectError(""), False),
        (httpx.ConnectTimeout(""), False),
        (httpx.ProxyError(""), False),
        (AddressRefused("10.0.0.1"), False),
        (httpx.Response(200, content=b"<html>"), True),
        (httpx.Response(200, content=b'{"access_token": "pha_'), True),
        (httpx.Response(500), True),
        (httpx.Response(502), True),
        (httpx.Response(504), True),
        (httpx.Response(503), False),
        (httpx.Response(429), False),
        (httpx.Response(302), False),
        (httpx.Response(400, json={"error": "invalid_grant"}), False),
    ],
    ids=repr,
)
async def test_a_response_is_lost_if_posthog_may_have_refreshed(
    response: Exception | httpx.Response, lost: bool
) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    with pytest.raises(RefreshFailed) as failure:
        await renew(respond)
    assert failure.value.response_lost is lost


class EndlessResponse(httpx.AsyncByteStream):
    """Counts how many bytes are read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            self.read += MAX_BODY_BYTES
            yield b"x" * MAX_BODY_BYTES


async def test_an_endless_response_is_not_read_to_its_end() -> None:
    response = EndlessResponse()
    with pytest.raises(RefreshFailed, match="an answer without"):
        await renew(lambda _: httpx.Response(200, stream=response))
    assert response.read == MAX_BODY_BYTES


async def test_a_response_that_does_not_arrive_in_time_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("services.credentials.token_endpoint.TIMEOUT_SECONDS", 0.01)
    with pytest.raises(RefreshFailed, match=r"no answer \(TimeoutError\)"):
        await renew(hang)


async def test_a_refusal_that_repeats_the_refresh_token_does_not_show_it() -> None:
    """Tokens of a self-hosted PostHog may have another prefix than PostHog Cloud's."""
    grant = make_grant(CLOCK, left=-5, refresh_token="only_letters")
    server = Server(400, {"error": "bad_only_letters"})
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        with pytest.raises(RefreshFailed, match=r"^HTTP 400$"):
            await TokenEndpoint(http).renew(grant, CLOCK())


def test_the_deadline_of_a_token_request_covers_two_refreshes() -> None:
    assert CREDENTIALS_TOKEN.deadline > 2 * TIMEOUT_SECONDS
