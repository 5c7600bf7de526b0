"""Faults on purpose: an area that is slow, fails, or is rate limited."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Meta

from sandbox.api.errors import ApiErrorBody, server_error, throttled
from sandbox.oauth.errors import OAuthErrorBody

Area = Literal["oauth", "api", "ingestion", "flags"]

PREFIXES: dict[str, Area] = {
    "/oauth/": "oauth",
    "/.well-known/": "oauth",
    "/api/": "api",
    "/flags": "flags",
    "/decide": "flags",
    "/i/": "ingestion",
    "/e": "ingestion",
    "/capture": "ingestion",
    "/track": "ingestion",
    "/batch": "ingestion",
}

TOO_MANY = 429


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with an area; all that is left out is right."""

    delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """Wait this long before anything else."""

    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    """Answer this, with PostHog's body for it."""

    retry_after: Annotated[int, Meta(ge=0)] | None = None
    """Seconds in `Retry-After`."""

    lose_answer: bool = False
    """Do what was asked and answer `status` (502) all the same: the effect is there, unknown."""

    drop: bool = False
    """Close the connection in the middle of an answer."""

    times: Annotated[int, Meta(ge=1)] | None = None
    """Only for so many requests; for all when not given."""


class Faults:
    """The faults there are, by area."""

    def __init__(self) -> None:
        self.by_area: dict[Area, Fault] = {}
        self._replaced = asyncio.Event()

    def replace(self, by_area: dict[Area, Fault]) -> None:
        """Put other faults in place; requests that are being delayed go on."""
        self.by_area = by_area
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def delay(self, seconds: float) -> None:
        """Wait, at most until the faults are replaced."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._replaced.wait(), seconds)

    def take(self, path: str) -> Fault | None:
        """The fault a request for `path` meets; counts it."""
        area = next((area for prefix, area in PREFIXES.items() if path.startswith(prefix)), None)
        fault = self.by_area.get(area) if area else None
        if fault is None or area is None:
            return None
        if fault.times is not None:
            fault.times -= 1
            if not fault.times:
                del self.by_area[area]
        return fault


def with_faults(app: ASGIApp, faults: Faults) -> ASGIApp:
    """Wrap `app`."""

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
            await app(scope, receive, _nowhere)
            await _answer(scope["path"], fault.status or 502, fault.retry_after, send)
        elif fault.status is not None:
            await _answer(scope["path"], fault.status, fault.retry_after, send)
        else:
            await app(scope, receive, send)

    return wrapped


async def _nowhere(_message: Message) -> None:
    pass


async def _drop(send: Send) -> None:
    # More is announced than comes, so the server can only close.
    start: Any = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"100")],
    }
    part: Any = {"type": "http.response.body", "body": b"{", "more_body": True}
    end: Any = {"type": "http.response.body", "body": b"", "more_body": False}
    for message in (start, part, end):
        await send(message)


async def _answer(path: str, status: int, retry_after: int | None, send: Send) -> None:
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
        error = throttled(retry_after or 1) if status == TOO_MANY else server_error(status)
        body: ApiErrorBody | OAuthErrorBody = error.body
    elif path.startswith(("/oauth/", "/.well-known/")):
        code = "temporarily_unavailable" if status in (TOO_MANY, 503) else "server_error"
        body = OAuthErrorBody(code, "The sandbox was told to fail.")
    else:
        reason = "rate limited" if status == TOO_MANY else "transient error, please retry"
        return b"text/plain; charset=utf-8", reason.encode()
    return b"application/json", msgspec.json.encode(body)
