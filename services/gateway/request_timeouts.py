"""Timeouts for slow clients: how long headers, a body and an idle connection may take."""

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
"""Limit for request line and headers; the server may buffer twice as much before it refuses."""

BODY_LIMIT_STATE = "body_limit"
"""Bytes that the body of this request may have; set before it is read, by a guard of its route."""

REQUEST_TIMEOUTS = Counter(
    "hogsend_request_timeouts", "Requests refused because their body arrived too slowly"
)
DeprecatedName(REQUEST_TIMEOUTS, "hogsend_slow_requests")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time; nothing was accepted."""

    status_code = 408
    detail = "The request body did not arrive in time"


class TooBusy(HTTPException):
    """There was no memory for the body, or it arrived slowly while others waited for theirs."""

    status_code = 429
    detail = "The gateway is busy with other requests; nothing was accepted"


def http1_settings(seconds: float) -> HTTP1Settings:
    """Limit a request's headers, and an idle connection, to `seconds`."""
    return HTTP1Settings(header_read_timeout=int(seconds * 1000), max_buffer_size=MAX_HEADER_BYTES)


def with_body_timeout(app: ASGIApp, seconds: float, budget: BodyBudget) -> ASGIApp:
    """Wrap `app` so that a request's whole body must arrive within `seconds`.

    All bodies together take what `budget` allows of memory; more wait for one another.
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
                body.waits_for_client()
                message = await receive()
            except asyncio.CancelledError:
                if not body.ended_by_expiry():
                    raise
                REQUEST_TIMEOUTS.inc()
                if body.given_up or not body.admitted:
                    raise TooBusy(headers={**RETRY_AFTER}) from None
                raise BodyTooSlow from None
            finally:
                body.end()
            complete = not message.get("more_body", False)
            return message

        try:
            await app(scope, receive_in_time, send)
        finally:
            budget.end(body)

    return wrapped
