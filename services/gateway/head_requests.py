"""Answers `HEAD` on the health routes, because monitors and load balancers send it."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

PROBES = frozenset({"/v1/health", "/livez", "/readyz"})


def with_head_requests(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that the health routes answer `HEAD` like `GET` without body (RFC 9110, 9.3.2).

    Other routes do not support `HEAD`: the live events would start a stream that is never read.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        if (scope["path"].rstrip("/") or "/") not in PROBES:
            await app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"
        await app(scope, receive, send_without_body)

    return wrapped
