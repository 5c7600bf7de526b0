"""A span for every HTTP request, where traces are wanted."""

from __future__ import annotations

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.service import tracing

_QUERY = "hogsend.query_string"


def with_traces(app: ASGIApp) -> ASGIApp:
    """Wrap `app` with OpenTelemetry's ASGI middleware; `app` itself where no traces are wanted."""
    traces = tracing.in_use()
    if traces is None:
        return app
    from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415 - only where it is wanted
        OpenTelemetryMiddleware,
    )

    traced: Any = OpenTelemetryMiddleware(
        _with_query(app),
        tracer_provider=traces.provider,
        # A span for every chunk that is read and written says nothing here.
        exclude_spans=["receive", "send"],
    )
    return _without_query(cast("ASGIApp", traced))


def _without_query(app: ASGIApp) -> ASGIApp:
    """Keep the query from `app`, whose spans would hold it.

    There are people's addresses in it, and the code of an authorization.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        kept: Any = scope
        if scope["type"] == ScopeType.HTTP:
            kept[_QUERY], kept["query_string"] = kept["query_string"], b""
        await app(scope, receive, send)

    return wrapped


def _with_query(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        kept: Any = scope
        if _QUERY in kept:
            kept["query_string"] = kept.pop(_QUERY)
        await app(scope, receive, send)

    return wrapped
