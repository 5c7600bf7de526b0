"""Timeouts for slow clients: how long headers, a body and an idle connection may take."""

from __future__ import annotations

import asyncio

from granian.http import HTTP1Settings
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send
from prometheus_client import Counter

from hogsend.service.metrics import DeprecatedName

MAX_HEADER_BYTES = 64 * 1024
"""Limit for request line and headers; the server may buffer twice as much before it refuses."""

REQUEST_TIMEOUTS = Counter(
    "hogsend_request_timeouts", "Requests refused because their body arrived too slowly"
)
DeprecatedName(REQUEST_TIMEOUTS, "hogsend_slow_requests")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time; nothing was accepted."""

    status_code = 408
    detail = "The request body did not arrive in time"


def http1_settings(seconds: float) -> HTTP1Settings:
    """Limit a request's headers, and an idle connection, to `seconds`."""
    return HTTP1Settings(header_read_timeout=int(seconds * 1000), max_buffer_size=MAX_HEADER_BYTES)


def with_body_timeout(app: ASGIApp, seconds: float) -> ASGIApp:
    """Wrap `app` so that a request's whole body must arrive within `seconds`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + seconds
        complete = False

        async def receive_in_time() -> ReceiveMessage:
            nonlocal complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                REQUEST_TIMEOUTS.inc()
                raise BodyTooSlow from None
            complete = not message.get("more_body", False)
            return message

        await app(scope, receive_in_time, send)

    return wrapped
