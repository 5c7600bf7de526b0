"""Timeouts for slow clients: for a request's headers, its body, and an idle connection."""

from __future__ import annotations

import asyncio

from granian.http import HTTP1Settings
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send
from prometheus_client import Counter

from hogsend.service.metrics import DeprecatedName
from services.gateway.body_budget import BodyBudget
from services.gateway.response_headers import RETRY_AFTER

MAX_HEADER_BYTES = 64 * 1024
"""Limit for the request line and headers. Granian may buffer twice as much before it refuses."""

BODY_LIMIT_STATE = "body_limit"
"""Key of the request's state: the body's limit in bytes. A guard of the route may set it."""

REQUEST_TIMEOUTS = Counter(
    "hogsend_request_timeouts", "Requests refused because their body arrived too slowly"
)
DeprecatedName(REQUEST_TIMEOUTS, "hogsend_slow_requests")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time; nothing was accepted."""

    status_code = 408
    detail = "The request body did not arrive in time"


class TooBusy(HTTPException):
    """There was no memory for the body, or it arrived slowly while other bodies waited."""

    status_code = 429
    detail = "The gateway is busy with other requests; nothing was accepted"


def http1_settings(seconds: float) -> HTTP1Settings:
    """Allow `seconds` for a request's headers, and for an idle connection."""
    return HTTP1Settings(header_read_timeout=int(seconds * 1000), max_buffer_size=MAX_HEADER_BYTES)


def with_body_timeout(app: ASGIApp, seconds: float, budget: BodyBudget) -> ASGIApp:
    """Wrap `app` so that a request's whole body must arrive within `seconds`.

    All bodies together take at most the memory that `budget` allows. Further bodies wait.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        body, complete = budget.body_of(scope, seconds), False

        async def receive_in_time() -> ReceiveMessage:
            nonlocal complete
            if complete:
                return await receive()
            budget.watch(body)
            try:
                if not body.admitted:
                    body.size = min(body.size, scope["state"].get(BODY_LIMIT_STATE, body.size))
                    await budget.admit(body)
                body.start_client_time()
                message = await receive()
            except asyncio.CancelledError:
                if not body.ended_by_expiry():
                    raise
                REQUEST_TIMEOUTS.inc()
                if body.aborted or not body.admitted:
                    raise TooBusy(headers={**RETRY_AFTER}) from None
                raise BodyTooSlow from None
            finally:
                body.stop_waiting()
            complete = not message.get("more_body", False)
            return message

        try:
            await app(scope, receive_in_time, send)
        finally:
            budget.release(body)

    return wrapped
