"""CORS headers: pages of any origin may use capture and flags, and call the API."""

from __future__ import annotations

from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

MIRRORED = frozenset({"i", "e", "s", "capture", "track", "engage", "batch", "flags", "decide"})
"""First path segments whose routes allow the requested origin and headers, with credentials.

Source: rust/capture/src/router.rs.
"""

ANY_ORIGIN = ("/api/", "/array/", "/static/", "/.well-known/")
"""Path prefixes that allow any origin, without credentials.

Source: django-cors-headers, posthog/settings/web.py.
"""

DJANGO_METHODS = "DELETE, GET, OPTIONS, PATCH, POST, PUT"
DJANGO_HEADERS = (
    "accept, authorization, content-type, user-agent, x-csrftoken, x-requested-with, "
    "traceparent, request-id, x-posthog-session-id, x-posthog-distinct-id"
)


def with_cors(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that its responses have PostHog's CORS headers."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin") if scope["type"] == ScopeType.HTTP else None
        if origin is None:
            await app(scope, receive, send)
            return
        allowed = _allowed(scope, origin)
        is_preflight = _header(scope, b"access-control-request-method") is not None
        if allowed and is_preflight and scope.get("method") == "OPTIONS":
            await _respond(allowed | {"content-length": "0"}, send)
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in allowed.items():
                    headers[name] = value
            await send(message)

        await app(scope, receive, send_allowed)

    return wrapped


def _allowed(scope: Scope, origin: str) -> dict[str, str]:
    path = scope["path"]
    if path.split("/")[1] in MIRRORED:
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET,POST,OPTIONS",
            "access-control-allow-headers": _header(scope, b"access-control-request-headers") or "",
            "vary": "origin, access-control-request-method, access-control-request-headers",
        }
    if path.startswith(ANY_ORIGIN):
        return {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": DJANGO_METHODS,
            "access-control-allow-headers": DJANGO_HEADERS,
            "access-control-max-age": "86400",
        }
    return {}


def _header(scope: Scope, name: bytes) -> str | None:
    return next(
        (value.decode("latin-1") for header, value in scope["headers"] if header == name), None
    )


async def _respond(headers: dict[str, str], send: Send) -> None:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    start: Any = {"type": "http.response.start", "status": 200, "headers": pairs}
    end: Any = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(start)
    await send(end)
