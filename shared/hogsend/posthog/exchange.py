"""One HTTP request to PostHog and its response, limited in time and size.

There are no retries. `http` must not follow redirects (`hogsend.service.http`), because requests
carry a bearer token or a project key. Only a 307 or 308 within the same origin is followed here:
PostHog moves its paths with these (contract C1), and proxies use them to add or remove a slash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import httpx
import msgspec

from hogsend.posthog.errors import (
    PostHogError,
    PostHogResponseTooLarge,
    PostHogTimeout,
    PostHogUnreachable,
)
from hogsend.posthog.response_body import ResponseTooLarge, read

MAX_REDIRECTS = 3
_REPEATS = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
"""Redirects that keep method and body (RFC 9110, 15.4.8 and 15.4.9)."""

MAX_DETAIL = 200
"""Maximum characters of PostHog's text in an error message (contract 2.7)."""


class Response(msgspec.Struct, frozen=True):
    """An HTTP response of any status, read completely."""

    status: int
    content: bytes
    retry_after: str | None
    """The `Retry-After` header."""
    date: str | None
    """The `Date` header."""


async def exchange(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None,
    seconds: float,
    max_bytes: int,
) -> Response:
    """Send one request and read its response within `seconds`.

    The response may be a redirect that is not followed: to another origin, or of another kind.

    Raises:
        PostHogTimeout: the response was not complete in time.
        PostHogUnreachable: there was no response.
        PostHogResponseTooLarge: the response has more than `max_bytes`.
        PostHogError: there were more than `MAX_REDIRECTS` redirects.
    """
    try:
        async with asyncio.timeout(seconds):
            return await follow(
                http, method, url, headers=headers, content=content, max_bytes=max_bytes
            )
    # `from None`, because the messages of httpx and httpcore can quote a header.
    except TimeoutError:
        raise PostHogTimeout(f"PostHog did not answer within {seconds:g} s") from None
    except ResponseTooLarge:
        raise PostHogResponseTooLarge("PostHog's answer is too large") from None
    except httpx.TooManyRedirects:
        raise PostHogError(f"PostHog redirects more than {MAX_REDIRECTS} times") from None
    except (httpx.ConnectError, httpx.ProxyError) as error:
        # Raised before the request is sent, so the message cannot quote a header.
        reason = str(error)[:MAX_DETAIL] or type(error).__name__
        raise PostHogUnreachable(f"PostHog cannot be reached: {reason}") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise PostHogUnreachable(f"PostHog cannot be reached ({type(error).__name__})") from None


async def follow(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None,
    max_bytes: int,
    read_body: Callable[[httpx.Response, int], Awaitable[bytes]] = read,
) -> Response:
    """Send one request, and follow redirects that keep method and body within the origin.

    Unlike `exchange` it raises the errors of httpx. Their messages may quote the request.

    Args:
        http: client that does not follow redirects itself.
        method: method of the request.
        url: URL of the request.
        headers: headers of the request.
        content: body of the request.
        max_bytes: maximum size of the response, for `read_body`.
        read_body: reads the body of a response.

    Raises:
        TooManyRedirects: of httpx. Its other errors and `ValueError` are raised as well.
        ResponseTooLarge: raised by `read_body`.
    """
    target = url
    for _ in range(MAX_REDIRECTS + 1):
        async with http.stream(
            method, target, headers=dict(headers), content=content, follow_redirects=False
        ) as response:
            body = await read_body(response, max_bytes)
        next_target = _redirect_within_origin(response)
        if next_target is None:
            retry_after, date = response.headers.get("Retry-After"), response.headers.get("Date")
            return Response(response.status_code, body, retry_after, date)
        target = next_target
    raise httpx.TooManyRedirects("", request=response.request)


def _redirect_within_origin(response: httpx.Response) -> str | None:
    """URL to repeat the request at; None if the response is no redirect that may be followed."""
    location = response.headers.get("Location")
    if response.status_code not in _REPEATS or not location:
        return None
    url = response.request.url
    target = url.join(location)
    if target.userinfo or _origin(target) != _origin(url):
        return None
    return str(target)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
