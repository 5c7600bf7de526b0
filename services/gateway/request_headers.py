"""Refuses requests whose headers are invalid, or could be read in two ways."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address

import msgspec
from litestar.enums import MediaType, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.signing import KEY_ID_HEADER
from services.gateway.error_responses import ErrorBody

SINGLE_HEADERS = frozenset(
    {
        *(b"authorization", b"host", b"idempotency-key", b"origin", b"sec-fetch-site"),
        *(SECRET_HEADER.encode(), KEY_ID_HEADER.encode()),
        *(b"webhook-id", b"webhook-timestamp", b"webhook-signature"),
    }
)
"""Headers that decide who sends a request, and for what. They are not lists, so a request may have
each only once (RFC 9110, 5.3). Of two, a proxy that checks one may read the first and the gateway
the last, or the other way round. A repeated `Content-Type` is accepted, because it decides nothing
and clients are known to repeat it (RFC 9110, 8.3)."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LARGEST_PORT = 65535

_TRANSFER_ENCODING = b"transfer-encoding"
_CHUNKED = b"chunked"


class Refusal(msgspec.Struct, frozen=True):
    """The status and the error of the response."""

    status: int
    error: str


_INVALID_HOST = Refusal(400, "Invalid host header")
_WITHOUT_HOST = Refusal(400, "The header Host is missing or empty")
_UNSUPPORTED_TRANSFER = Refusal(501, "Unsupported Transfer-Encoding: send the body chunked only")


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


def with_valid_headers(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that it receives no request with invalid or ambiguous headers."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or (refusal := _refusal_of(scope)) is None:
            await app(scope, receive, send)
            return
        response = ASGIResponse(
            body=msgspec.json.encode(ErrorBody(refusal.error)),
            status_code=refusal.status,
            media_type=MediaType.JSON,
        )
        await response(scope, receive, send)

    return wrapped


def _refusal_of(scope: Scope) -> Refusal | None:
    fields: list[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment]
    headers = dict(fields)
    host = headers.get(b"host", b"")
    # Litestar and some routes build URLs from the host, which would fail with an invalid one.
    if not is_host(host):
        return _INVALID_HOST
    # Granian adds an empty `Host` to a request without one. HTTP/1.1 requires the header, and an
    # http URL without a host is invalid (RFC 9112, 3.2; RFC 9110, 4.2.1).
    if not host and scope["http_version"] == "1.1":
        return _WITHOUT_HOST
    if len(headers) != len(fields) and (name := _first_repeated(fields)):
        return Refusal(400, f"The header {name} is given more than once")
    # Granian removes the chunks, but decodes no other transfer coding (RFC 9112, 6.1).
    if _TRANSFER_ENCODING in headers:
        codings = b",".join(value for name, value in fields if name == _TRANSFER_ENCODING)
        if codings.strip().lower() != _CHUNKED:
            return _UNSUPPORTED_TRANSFER
    return None


def _first_repeated(fields: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the first header that is repeated although it may be given only once."""
    names: set[bytes] = set()
    for name, _ in fields:
        if name in names and name in SINGLE_HEADERS:
            return name.decode()
        names.add(name)
    return None
