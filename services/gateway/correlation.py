"""Adds a request's id to every message and log line that the request causes."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.transport.correlation import correlation_id
from services.gateway.response_headers import REQUEST_ID_STATE


def with_correlation_id(app: ASGIApp) -> ASGIApp:
    """Wrap `app`, inside `with_response_headers`, which chooses the request's id."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        token = correlation_id.set(scope["state"][REQUEST_ID_STATE])
        try:
            await app(scope, receive, send)
        finally:
            correlation_id.reset(token)

    return wrapped
