"""Headers of every response: request id, hardening, CORS, caching, and the admin rate limit."""

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
"""Header of an answer while a dependency, memory or room is missing."""

HTTP_SECONDS = Histogram(
    "hogsend_http_request_seconds",
    "Time to answer a request, by template of the route and status; 0 where there was no answer",
    ["route", "status"],
    buckets=(0.0025, 0.01, 0.05, 0.25, 1, 5),
)
UNMATCHED = "unmatched"
"""Route of every path that there is none for."""

_SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,100}")
_HARDENING = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_VARY = (b"vary", b"origin")
"""No cache may give one origin the answer that names another."""
_CACHE_CONTROL = b"cache-control"
_NO_STORE = (_CACHE_CONTROL, b"no-store")
"""Of an answer that does not say itself how long it is good for. Many are about people, all are of
their moment, and a cache that is told nothing may keep what it likes (RFC 9111, 4.2.2)."""


_series: dict[tuple[str, int], Histogram] = {}
"""What `labels` gives, which takes longer than the observation itself."""

_PROCESS = uuid.uuid4().hex[:12]
_counter = itertools.count(1)


def next_request_id() -> bytes:
    """Return a new id: unique, not secret. A counter is cheaper than a UUID for each request."""
    return b"%s-%08x" % (_PROCESS.encode(), next(_counter))


def with_response_headers(app: ASGIApp) -> ASGIApp:
    """Wrap `app`; a client's own `X-Request-Id` is kept when it is harmless."""

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
                if not any(name.lower() == _CACHE_CONTROL for name, _ in headers):
                    headers.append(_NO_STORE)
                message["headers"] = [
                    *headers,
                    (b"x-request-id", request_id),
                    (b"access-control-allow-origin", origin),
                    _VARY,
                    *_HARDENING,
                    *_of_key(state),
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


def _of_key(state: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """What the key of an admin request adds, or its session."""
    if rate := state.get(RATE_LIMIT_STATE):
        yield b"x-ratelimit-limit", str(rate[0]).encode()
        yield b"x-ratelimit-remaining", str(rate[1]).encode()
    for cookie in state.get(SESSION_STATE, ()):
        yield b"set-cookie", cookie.encode()


def request_id(request: Request[Any, Any, Any]) -> str:
    """Id of this request: in the answer's `X-Request-Id`, and with every message it causes."""
    return str(request.scope["state"][REQUEST_ID_STATE])
