"""One request to PostHog's private API: address, bearer, time limit, and typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from hogsend.service.ssrf import AddressRefused, Outbound, guarded_transport

REQUEST_SECONDS = 15.0
"""Longest one request may take, answer included (contract 2.1)."""
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_DETAIL = 200
"""Characters of PostHog's own words that are passed on (contract 2.7)."""

_HIDDEN = "***"


class PostHogError(Exception):
    """PostHog refused a request or could not be asked. Safe to show: it never holds a secret."""

    def __init__(self, detail: str, status: int | None = None, attr: str | None = None) -> None:
        """Say what happened.

        Args:
            detail: PostHog's own `detail`, else its raw text, else why it could not be asked.
            status: HTTP status; None when there was no answer.
            attr: field of the request that PostHog named as the cause.
        """
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.attr = attr


class _ErrorBody(msgspec.Struct, frozen=True):
    """What is read of PostHog's error bodies (package `drf-exceptions-hog`)."""

    detail: str
    attr: Any = None


class AnswerTooLarge(Exception):
    """An answer is larger than whoever asked wants to hold."""


def http_client(
    outbound: Outbound,
    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None = None,
) -> httpx.AsyncClient:
    """Make a client that follows no redirect, keeps no cookie, and calls nobody it may not.

    Args:
        outbound: which addresses may be called.
        mounts: other ways to reach some hosts, as httpx takes them.
    """
    # Not httpx's limit: each request is given one for the whole of it.
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        transport=guarded_transport(outbound),
        follow_redirects=False,
        timeout=None,  # noqa: S113
        cookies=jar,
        mounts=mounts,
    )


class Transport:
    """PostHog's private API at one host, with one bearer."""

    def __init__(
        self, http: httpx.AsyncClient, host: str, bearer: str, *, secrets: Iterable[str] = ()
    ) -> None:
        """Prepare without asking.

        Args:
            http: client made by `http_client`.
            host: private host; a path prefix is kept (contract 2.1).
            bearer: access token or personal API key.
            secrets: texts besides the bearer that must not appear in an error, even when PostHog
                repeats them.
        """
        self._http = http
        self._base = host.rstrip("/")
        self._bearer = bearer
        self._secrets = [text for text in (bearer, *secrets) if text]

    async def get(self, path: str, *, seconds: float = REQUEST_SECONDS) -> Any:
        """Read `path`; an answer that is no JSON counts as None. Raises `PostHogError`."""
        return await self._send("GET", path, None, seconds)

    async def post(self, path: str, body: msgspec.Struct) -> Any:
        """Create something at `path`. Raises `PostHogError`."""
        return await self._send("POST", path, msgspec.json.encode(body), REQUEST_SECONDS)

    async def patch(self, path: str, body: msgspec.Struct) -> Any:
        """Change what is at `path`. Raises `PostHogError`."""
        return await self._send("PATCH", path, msgspec.json.encode(body), REQUEST_SECONDS)

    def own_path(self, url: str) -> str:
        """Path and query of a URL that PostHog gave, for use on our own host.

        PostHog may know itself under another host, or behind another proxy, than the one we were
        told: neither is followed (contract 2.2).
        """
        try:
            parts, prefix = urlsplit(url), urlsplit(self._base).path
        except ValueError as error:
            raise PostHogError("PostHog named a next page that is no URL") from error
        path = parts.path
        if prefix and path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
        return f"/{path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")

    async def _send(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        status, content = await self._exchange(method, path, body, seconds)
        if not httpx.codes.is_success(status):
            raise self._refusal(status, content)
        try:
            return msgspec.json.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    async def _exchange(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._bearer}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(
                    method, f"{self._base}{path}", headers=headers, content=body
                ) as answer,
            ):
                return answer.status_code, await read(answer, MAX_ANSWER_BYTES)
        # Causes are dropped on purpose: what the libraries below say can quote a header.
        except TimeoutError:
            raise PostHogError(f"PostHog did not answer within {seconds:g} s") from None
        except AnswerTooLarge:
            raise PostHogError("PostHog's answer is too large") from None
        except AddressRefused as error:
            raise PostHogError(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise PostHogError(f"PostHog cannot be reached ({type(error).__name__})") from None

    def _refusal(self, status: int, content: bytes) -> PostHogError:
        if httpx.codes.is_redirect(status):
            return PostHogError("a redirect, which the bearer must not follow", status)
        try:
            body = msgspec.json.decode(content, type=_ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            body = _ErrorBody(content.decode(errors="replace").strip())
        detail = body.detail
        # Before the cut, which could leave half a secret that no longer matches.
        for secret in self._secrets:
            detail = detail.replace(secret, _HIDDEN)
        if len(detail) > MAX_DETAIL:
            detail = f"{detail[:MAX_DETAIL]}…"
        return PostHogError(detail, status, body.attr if isinstance(body.attr, str) else None)


async def read(answer: httpx.Response, limit: int) -> bytes:
    """Read a streamed answer of at most `limit` bytes.

    Raises:
        AnswerTooLarge: it is larger.
    """
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > limit:
            raise AnswerTooLarge
    return bytes(content)
