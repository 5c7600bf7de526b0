"""Middleware that injects faults into requests."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.errors import ApiErrorBody, server_error, throttled
from sandbox.faults import Faults
from sandbox.oauth.errors import OAuthErrorBody

TOO_MANY_REQUESTS = 429


def with_faults(app: ASGIApp, faults: Faults) -> ASGIApp:
    """Wrap an app so that its requests fail as configured in `faults`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        fault = faults.take(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        if fault is None:
            await app(scope, receive, send)
            return
        if fault.delay_ms:
            await faults.delay(fault.delay_ms / 1000)
        if fault.drop:
            await _drop(send)
        elif fault.lose_answer:
            await app(scope, receive, _discard)
            await _respond(scope["path"], fault.status or 502, fault.retry_after, send)
        elif fault.status is not None:
            await _respond(scope["path"], fault.status, fault.retry_after, send)
        else:
            await app(scope, receive, send)

    return wrapped


async def _discard(_message: Message) -> None:
    pass


async def _drop(send: Send) -> None:
    # The body is shorter than its Content-Length, so the server must close the connection.
    start: Any = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"100")],
    }
    part: Any = {"type": "http.response.body", "body": b"{", "more_body": True}
    end: Any = {"type": "http.response.body", "body": b"", "more_body": False}
    for message in (start, part, end):
        await send(message)


async def _respond(path: str, status: int, retry_after: int | None, send: Send) -> None:
    kind, body = _body(path, status, retry_after)
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    end: Any = {"type": "http.response.body", "body": body, "more_body": False}
    await send(start)
    await send(end)


def _body(path: str, status: int, retry_after: int | None) -> tuple[bytes, bytes]:
    if path.startswith(("/api/", "/flags", "/decide")):
        error = throttled(retry_after or 1) if status == TOO_MANY_REQUESTS else server_error(status)
        body: ApiErrorBody | OAuthErrorBody = error.body
    elif path.startswith(("/oauth/", "/.well-known/")):
        code = "temporarily_unavailable" if status in (TOO_MANY_REQUESTS, 503) else "server_error"
        body = OAuthErrorBody(code, "The sandbox was configured to fail.")
    else:
        reason = "rate limited" if status == TOO_MANY_REQUESTS else "transient error, please retry"
        return b"text/plain; charset=utf-8", reason.encode()
    return b"application/json", msgspec.json.encode(body)
