"""Sends requests to PostHog's private API, with a bearer token, a time limit and typed errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from hogsend.contract.json_text import NOT_JSON, repaired_json
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import MAX_DETAIL, Response, exchange
from hogsend.posthog.http_date import read_http_date
from hogsend.posthog.retry_after import retry_after_seconds

REQUEST_SECONDS = 15.0
"""Maximum duration of one request, until its response is read (contract 2.1)."""
TOO_MANY = 429
MAX_RESPONSE_BYTES = 8 * 1024 * 1024
"""Maximum size of a response; the largest responses are pages of destinations.

Decoded, JSON takes up to 40 times its size, and a container has 512 MiB.
"""

_HIDDEN = "***"


class _ErrorBody(msgspec.Struct, frozen=True):
    """The body of PostHog's error responses (package `drf-exceptions-hog`)."""

    detail: str
    attr: Any = None
    code: Any = None


class Transport:
    """Client of PostHog's private API at one host, with one bearer token."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        host: str,
        bearer: str,
        *,
        secrets: Iterable[str] = (),
        max_wait: float = 0.0,
    ) -> None:
        """Create a client. This sends no request.

        Args:
            http: HTTP client that does not follow redirects (`hogsend.service.http`).
            host: private host; a path prefix is kept (contract 2.1).
            bearer: access token or personal API key.
            secrets: texts besides the bearer that are hidden in errors if PostHog repeats them.
            max_wait: maximum seconds to wait after a 429. If its `Retry-After` is not longer, the
                request is sent once more.
        """
        self._http = http
        self._base = host.rstrip("/")
        self._bearer = bearer
        self._max_wait = max_wait
        self._secrets = [text for text in (bearer, *secrets) if text]
        self._clock: tuple[datetime, float] | None = None
        """The `Date` of the last response, and the monotonic time at which it was received."""

    @property
    def host(self) -> str:
        """The private host, without a trailing slash."""
        return self._base

    @property
    def posthog_now(self) -> datetime | None:
        """The present time by PostHog's clock, from `Date` of its last response, if any."""
        if self._clock is None:
            return None
        date, received_at = self._clock
        return date + timedelta(seconds=time.monotonic() - received_at)

    def hide(self, text: str) -> None:
        """Hide a text in errors if PostHog repeats it."""
        self._secrets.append(text)

    async def get(self, path: str, *, seconds: float = REQUEST_SECONDS) -> Any:
        """GET `path`; None if the response is not JSON. Raises `PostHogError`."""
        return await self._send("GET", path, None, seconds)

    async def post(
        self,
        path: str,
        body: msgspec.Struct,
        *,
        seconds: float = REQUEST_SECONDS,
        max_bytes: int | None = None,
    ) -> Any:
        """POST to `path`; None if the response is not JSON. Raises `PostHogError`.

        Args:
            path: path on the host.
            body: body of the request, sent as JSON.
            seconds: maximum duration.
            max_bytes: maximum size of the response; None means `MAX_RESPONSE_BYTES`.
        """
        return await self._send("POST", path, msgspec.json.encode(body), seconds, max_bytes)

    async def patch(self, path: str, body: msgspec.Struct) -> Any:
        """PATCH `path`; None if the response is not JSON. Raises `PostHogError`."""
        return await self._send("PATCH", path, msgspec.json.encode(body), REQUEST_SECONDS)

    def path_on_host(self, url: str) -> str:
        """Return path and query of a URL in PostHog's response, for use on the configured host.

        PostHog may use another host or proxy in its URLs, and the bearer must not be sent there
        (contract 2.2).
        """
        try:
            parts, prefix = urlsplit(url), urlsplit(self._base).path
        except ValueError as error:
            raise PostHogError("PostHog's next page is not a URL") from error
        path = parts.path
        if prefix and path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
        return f"/{path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        seconds: float,
        max_bytes: int | None = None,
    ) -> Any:
        max_bytes = MAX_RESPONSE_BYTES if max_bytes is None else max_bytes
        try:
            return await self._send_once(method, path, body, seconds, max_bytes)
        except PostHogError as error:
            wait = error.retry_after
            # PostHog did not process a request that it refused with 429, so any may be repeated.
            if error.status != TOO_MANY or wait is None or wait > self._max_wait:
                raise
        await asyncio.sleep(wait)
        return await self._send_once(method, path, body, seconds, max_bytes)

    async def _send_once(
        self, method: str, path: str, body: bytes | None, seconds: float, max_bytes: int
    ) -> Any:
        headers = {"Authorization": f"Bearer {self._bearer}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = await exchange(
            self._http,
            method,
            f"{self._base}{path}",
            headers=headers,
            content=body,
            seconds=seconds,
            max_bytes=max_bytes,
        )
        if response.date is not None and (date := read_http_date(response.date)) is not None:
            self._clock = date, time.monotonic()
        if not httpx.codes.is_success(response.status):
            raise self._refusal(response)
        try:
            return msgspec.json.decode(repaired_json(response.content))
        except NOT_JSON:
            return None

    def _refusal(self, response: Response) -> PostHogError:
        status, content = response.status, response.content
        if httpx.codes.is_redirect(status):
            return PostHogError(
                "a redirect to another address, which the bearer must not follow", status
            )
        try:
            body = msgspec.json.decode(content, type=_ErrorBody)
        except NOT_JSON:
            body = _ErrorBody(content.decode(errors="replace").strip())
        detail = body.detail
        # Secrets are hidden before the text is cut: a part of a secret would not match.
        for secret in self._secrets:
            detail = detail.replace(secret, _HIDDEN)
        if len(detail) > MAX_DETAIL:
            detail = f"{detail[:MAX_DETAIL]}…"
        return PostHogError(
            detail,
            status,
            body.attr if isinstance(body.attr, str) else None,
            code=body.code if isinstance(body.code, str) else None,
            retry_after=retry_after_seconds(response.retry_after, datetime.now(UTC)),
        )
