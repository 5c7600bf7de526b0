"""A span for every HTTP request, where traces are wanted."""

from __future__ import annotations

from typing import cast

from litestar.types import ASGIApp

from hogsend.posthog.client_document import CONSOLE_CALLBACK
from hogsend.service import tracing


def with_traces(app: ASGIApp) -> ASGIApp:
    """Wrap `app` with OpenTelemetry's ASGI middleware; `app` itself where no traces are wanted."""
    traces = tracing.in_use()
    if traces is None:
        return app
    from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415 - only where it is wanted
        OpenTelemetryMiddleware,
    )
    from opentelemetry.util.http import ExcludeList  # noqa: PLC0415

    traced = OpenTelemetryMiddleware(
        app,
        # A span holds the address, and this one the code of an authorization.
        excluded_urls=ExcludeList([CONSOLE_CALLBACK]),
        tracer_provider=traces.provider,
        # A span for every chunk that is read and written says nothing here.
        exclude_spans=["receive", "send"],
    )
    return cast("ASGIApp", traced)
