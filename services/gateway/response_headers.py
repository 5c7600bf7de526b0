"""Adds headers to every response: request id, hardening, CORS, caching, and the rate limit."""

from __future__ import annotations

import itertools
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Histogram

from services.gateway.auth import RATE_LIMIT_STATE, SESSION_STATE

REQUEST_ID_STATE = "request_id"
RETRY_AFTER: Mapping[str, str] = {"Retry-After": "5"}
"""Header of a response that is refused for lack of a dependency, of memory or of disk space."""

HTTP_SECONDS = Histogram(
    "hogsend_http_request_seconds",
    "Seconds to answer a request, by path template of the route and by status; status 0 if the "
    "request got no response",
    ["route", "status"],
    buckets=(0.0025, 0.01, 0.05, 0.25, 1, 5),
)
UNMATCHED = "unmatched"
"""Label of requests whose path matches no route."""

_SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,100}")
_HARDENING = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_VARY = (b"vary", b"origin")
"""A cache must not reuse a response for another origin, because CORS headers name the origin."""
_CACHE_CONTROL = b"cache-control"
_NO_STORE = (_CACHE_CONTROL, b"no-store")
"""Added to responses without `Cache-Control`. A cache may otherwise store them by its own rules
(RFC 9111, 4.2.2), although many contain personal data and all become outdated."""


_series: dict[tuple[str, int], Histogram] = {}
"""Cached results of `HTTP_SECONDS.labels`, which takes longer than the observation itself."""

_PROCESS = uuid.uuid4().hex[:12].encode()
_counter = itertools.count(1)


def next_request_id() -> bytes:
    """Return a new id. It is unique but predictable; a counter is cheaper than a UUID."""
    return b"%s-%08x" % (_PROCESS, next(_counter))


def with_response_headers(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that every response gets a request id and the headers for security and caching.

    A client's `X-Request-Id` is used if it has at most 100 letters, digits and `_.:-`.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        origin, request_id = b"*", b""
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"x-request-id" and _SAFE_REQUEST_ID.fullmatch(value):
                request_id = value
        request_id = request_id or next_request_id()
        state = scope.setdefault("state", {})
        state[REQUEST_ID_STATE] = request_id.decode()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                if _CACHE_CONTROL not in [name.lower() for name, _ in headers]:
                    headers.append(_NO_STORE)
                message["headers"] = [
                    *headers,
                    (b"x-request-id", request_id),
                    (b"access-control-allow-origin", origin),
                    _VARY,
                    *_HARDENING,
                    *_key_headers(state),
                ]
            await send(message)

        try:
            await app(scope, receive, send_with_headers)
        finally:
            key = (scope.get("path_template") or UNMATCHED, status)
            series = _series.get(key)
            if series is None:
                series = _series[key] = HTTP_SECONDS.labels(*key)
            series.observe(time.perf_counter() - started)

    return wrapped


def _key_headers(state: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rate limit of an admin request's key, and the cookie that renews its session."""
    if rate := state.get(RATE_LIMIT_STATE):
        yield b"x-ratelimit-limit", str(rate[0]).encode()
        yield b"x-ratelimit-remaining", str(rate[1]).encode()
    for cookie in state.get(SESSION_STATE, ()):
        yield b"set-cookie", cookie.encode()


def request_id(request: Request[Any, Any, Any]) -> str:
    """Return the id of this request, which the header `X-Request-Id` of the response contains."""
    return str(request.scope["state"][REQUEST_ID_STATE])
