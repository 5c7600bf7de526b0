"""One HTTP request to PostHog and its answer, limited in time and size.

Nothing here retries. `http` must follow no redirect (`hogsend.service.http`): a request carries a
bearer or a project key. A 307 or 308 within the same origin is followed here; PostHog moves its
paths by those (contract C1), and proxies add or take away a slash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import httpx
import msgspec

from hogsend.posthog.answer_body import AnswerTooLarge, read
from hogsend.posthog.errors import (
    PostHogAnswerTooLarge,
    PostHogError,
    PostHogTimeout,
    PostHogUnreachable,
)

MAX_REDIRECTS = 3
_REPEATS = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
"""Redirects that ask for the same method and body (RFC 9110, 15.4.8 and 15.4.9)."""

MAX_DETAIL = 200
"""Characters of a foreign text that are passed on (contract 2.7)."""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer, whatever its status."""

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
) -> Answer:
    """Send one request and read its answer within `seconds`.

    An answer with a redirect is one that leads elsewhere, or one of another kind.

    Raises:
        PostHogTimeout: the answer was not complete in time.
        PostHogUnreachable: there was no answer.
        PostHogAnswerTooLarge: there was one of more than `max_bytes`.
        PostHogError: there were redirects without end.
    """
    try:
        async with asyncio.timeout(seconds):
            return await follow(
                http, method, url, headers=headers, content=content, max_bytes=max_bytes
            )
    # Causes are dropped on purpose: the messages of httpx and httpcore can quote a header.
    except TimeoutError:
        raise PostHogTimeout(f"PostHog did not answer within {seconds:g} s") from None
    except AnswerTooLarge:
        raise PostHogAnswerTooLarge("PostHog's answer is too large") from None
    except httpx.TooManyRedirects:
        raise PostHogError(f"PostHog redirects more than {MAX_REDIRECTS} times") from None
    except (httpx.ConnectError, httpx.ProxyError) as error:
        # Raised before the request is sent, so its message cannot quote it.
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
    reading: Callable[[httpx.Response, int], Awaitable[bytes]] = read,
) -> Answer:
    """Send one request, and again to where the answer says, within the origin.

    For callers that tell its errors apart; the text of some quotes what was sent.

    Raises:
        TooManyRedirects: of httpx, as it raises other errors; so says `ValueError`.
        AnswerTooLarge: from `reading`, which takes at most `max_bytes` of an answer.
    """
    target = url
    for _ in range(MAX_REDIRECTS + 1):
        async with http.stream(
            method, target, headers=dict(headers), content=content, follow_redirects=False
        ) as answer:
            body = await reading(answer, max_bytes)
        following = _within_origin(answer)
        if following is None:
            said = answer.headers
            return Answer(answer.status_code, body, said.get("Retry-After"), said.get("Date"))
        target = following
    raise httpx.TooManyRedirects("", request=answer.request)


def _within_origin(answer: httpx.Response) -> str | None:
    """Where to send the same request again; None when the answer does not ask for that."""
    location = answer.headers.get("Location")
    if answer.status_code not in _REPEATS or not location:
        return None
    here = answer.request.url
    there = here.join(location)
    if there.userinfo or _origin(there) != _origin(here):
        return None
    return str(there)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
