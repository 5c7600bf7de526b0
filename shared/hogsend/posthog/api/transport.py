"""Requests to PostHog's private API: address, bearer, time limit, and typed errors."""

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
from hogsend.posthog.exchange import MAX_DETAIL, Answer, exchange
from hogsend.posthog.http_date import read_http_date
from hogsend.posthog.retry_after import retry_after_seconds

REQUEST_SECONDS = 15.0
"""Longest one request may take, answer included (contract 2.1)."""
TOO_MANY = 429
MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""The largest is a page of destinations. Decoded, JSON takes up to 40 times its size, and a
container has 512 MiB."""

_HIDDEN = "***"


class _ErrorBody(msgspec.Struct, frozen=True):
    """What is read of PostHog's error bodies (package `drf-exceptions-hog`)."""

    detail: str
    attr: Any = None
    code: Any = None


class Transport:
    """PostHog's private API at one host, with one bearer."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        host: str,
        bearer: str,
        *,
        secrets: Iterable[str] = (),
        patience: float = 0.0,
    ) -> None:
        """Prepare without a request.

        Args:
            http: client that follows no redirect (`hogsend.service.http`).
            host: private host; a path prefix is kept (contract 2.1).
            bearer: access token or personal API key.
            secrets: texts besides the bearer that no error may contain, even when PostHog repeats
                them.
            patience: seconds that one request waits at most when PostHog limits requests and says
                for how long; then it is sent once more.
        """
        self._http = http
        self._base = host.rstrip("/")
        self._bearer = bearer
        self._patience = patience
        self._secrets = [text for text in (bearer, *secrets) if text]
        self._clock: tuple[datetime, float] | None = None

    @property
    def host(self) -> str:
        """The private host, without a trailing slash."""
        return self._base

    @property
    def posthog_now(self) -> datetime | None:
        """The time by PostHog's clock, as it said in its last answer; None when it said none."""
        if self._clock is None:
            return None
        said, at = self._clock
        return said + timedelta(seconds=time.monotonic() - at)

    def hide(self, text: str) -> None:
        """Keep a text out of every error, even when PostHog repeats it."""
        self._secrets.append(text)

    async def get(self, path: str, *, seconds: float = REQUEST_SECONDS) -> Any:
        """Read `path`; an answer that is not JSON counts as None. Raises `PostHogError`."""
        return await self._send("GET", path, None, seconds)

    async def post(
        self,
        path: str,
        body: msgspec.Struct,
        *,
        seconds: float = REQUEST_SECONDS,
        max_bytes: int | None = None,
    ) -> Any:
        """Create something at `path`, or ask it. Raises `PostHogError`.

        Args:
            path: where.
            body: what.
            seconds: longest it may take.
            max_bytes: of the answer; `MAX_ANSWER_BYTES` when not given.
        """
        return await self._send("POST", path, msgspec.json.encode(body), seconds, max_bytes)

    async def patch(self, path: str, body: msgspec.Struct) -> Any:
        """Change what is at `path`. Raises `PostHogError`."""
        return await self._send("PATCH", path, msgspec.json.encode(body), REQUEST_SECONDS)

    def own_path(self, url: str) -> str:
        """Return path and query of a URL in PostHog's answer, for use on the configured host.

        PostHog may know itself by another host or behind another proxy; the bearer is sent to
        neither (contract 2.2).
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
        most = MAX_ANSWER_BYTES if max_bytes is None else max_bytes
        try:
            return await self._send_once(method, path, body, seconds, most)
        except PostHogError as error:
            wait = error.retry_after
            # Nothing was done about a request that was too many.
            if error.status != TOO_MANY or wait is None or wait > self._patience:
                raise
        await asyncio.sleep(wait)
        return await self._send_once(method, path, body, seconds, most)

    async def _send_once(
        self, method: str, path: str, body: bytes | None, seconds: float, max_bytes: int
    ) -> Any:
        headers = {"Authorization": f"Bearer {self._bearer}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = await exchange(
            self._http,
            method,
            f"{self._base}{path}",
            headers=headers,
            content=body,
            seconds=seconds,
            max_bytes=max_bytes,
        )
        if answer.date is not None and (said := read_http_date(answer.date)) is not None:
            self._clock = said, time.monotonic()
        if not httpx.codes.is_success(answer.status):
            raise self._refusal(answer)
        try:
            return msgspec.json.decode(repaired_json(answer.content))
        except NOT_JSON:
            return None

    def _refusal(self, answer: Answer) -> PostHogError:
        status, content = answer.status, answer.content
        if httpx.codes.is_redirect(status):
            return PostHogError(
                "a redirect to another address, which the bearer must not follow", status
            )
        try:
            body = msgspec.json.decode(content, type=_ErrorBody)
        except NOT_JSON:
            body = _ErrorBody(content.decode(errors="replace").strip())
        detail = body.detail
        # Before truncation, which could leave part of a secret that no longer matches.
        for secret in self._secrets:
            detail = detail.replace(secret, _HIDDEN)
        if len(detail) > MAX_DETAIL:
            detail = f"{detail[:MAX_DETAIL]}…"
        return PostHogError(
            detail,
            status,
            body.attr if isinstance(body.attr, str) else None,
            code=body.code if isinstance(body.code, str) else None,
            retry_after=retry_after_seconds(answer.retry_after, datetime.now(UTC)),
        )
