"""Refuses requests with an invalid `Host` header (RFC 9112, 3.2).

Litestar and some routes build URLs from the header, which would fail with an invalid one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

import msgspec
from litestar.enums import MediaType, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from services.gateway.error_responses import ErrorBody

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LARGEST_PORT = 65535

_BODY = msgspec.json.encode(ErrorBody("Invalid host header"))


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether a `Host` header's value is a host with an optional port. An empty value is valid."""
    match = _HOST.fullmatch(value)
    if match is None or int(match[2] or 0) > _LARGEST_PORT:
        return False
    try:
        return match[1] is None or bool(IPv6Address(match[1].decode()))
    except ValueError:
        return False


def with_valid_host(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that requests with an invalid `Host`, or several, are answered 400."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) <= 1 and all(map(is_host, hosts)):
            await app(scope, receive, send)
            return
        refusal = ASGIResponse(body=_BODY, status_code=400, media_type=MediaType.JSON)
        await refusal(scope, receive, send)

    return wrapped
