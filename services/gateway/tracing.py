"""Creates a span for every HTTP request, if tracing is enabled."""

from __future__ import annotations

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.service import tracing

_QUERY = "hogsend.query_string"
"""Key of the scope under which the query string is hidden from the tracing middleware."""


def with_traces(app: ASGIApp) -> ASGIApp:
    """Wrap `app` with OpenTelemetry's ASGI middleware. Return `app` itself without tracing."""
    traces = tracing.in_use()
    if traces is None:
        return app
    from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415 - an optional dependency
        OpenTelemetryMiddleware,
    )

    traced: Any = OpenTelemetryMiddleware(
        _with_query(app),
        tracer_provider=traces.provider,
        # Spans for each chunk that is read or written add nothing here.
        exclude_spans=["receive", "send"],
    )
    return _without_query(cast("ASGIApp", traced))


def _without_query(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that it does not see the query string, which its spans would include.

    Query strings contain people's addresses, and OAuth authorization codes.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        untyped: Any = scope
        if scope["type"] == ScopeType.HTTP:
            untyped[_QUERY], untyped["query_string"] = untyped["query_string"], b""
        await app(scope, receive, send)

    return wrapped


def _with_query(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that it sees the query string that `_without_query` hid."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        untyped: Any = scope
        if _QUERY in untyped:
            untyped["query_string"] = untyped.pop(_QUERY)
        await app(scope, receive, send)

    return wrapped
