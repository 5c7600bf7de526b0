"""`POST /v1/webhooks/{source}`: where PostHog delivers (contract 5)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from hogsend.bus import Bus
from hogsend.errors import SpoolFull
from litestar import Request, post
from litestar.exceptions import HTTPException, NotAuthorizedException, NotFoundException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.datastructures import ResponseSpec

from services.gateway.answers import RETRY_SECONDS, InvalidPayloadBody, documented
from services.gateway.intake.intake import Intake
from services.gateway.response_headers import request_id
from services.gateway.sources import POSTHOG, parse_posthog, posthog_delivery
from services.gateway.webhook_secret import Verdict, WebhookSecret

SECRET_HEADER = "x-posthog-webhook-secret"  # noqa: S105
HEADERS_BYTES = 4096
"""Room left in a NATS message for the headers that travel with the body."""


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """The event is durable; whatever happens next, it is not lost."""

    event: str
    user_id: str
    ok: Literal[True] = True


@post(
    "/v1/webhooks/{source:str}",
    status_code=200,
    tags=["Webhooks"],
    responses={
        **documented(401, 404, 413, 429, 503),
        400: ResponseSpec(InvalidPayloadBody, description="Not what PostHog sends."),
    },
)
async def receive_webhook(
    source: str,
    request: Request[Any, Any, Any],
    intake: Intake,
    webhook_secret: WebhookSecret,
    bus: Bus,
) -> Accepted:
    """Accept one event from PostHog's webhook destination."""
    if source != POSTHOG:
        raise NotFoundException("Unknown webhook source")
    _check_secret(webhook_secret, request)
    body = await request.body()
    if len(body) > bus.max_payload - HEADERS_BYTES:
        raise RequestEntityTooLarge
    webhook, body = parse_posthog(body)
    delivery = posthog_delivery(webhook, body, datetime.now(UTC), request_id(request))
    try:
        await intake.accept(delivery)
    except SpoolFull as error:
        # 429 and not 503: PostHog then keeps trying for minutes instead of seconds.
        raise _busy(429, str(error)) from error
    return Accepted(webhook.event.event, webhook.event.distinct_id)


def _check_secret(secret: WebhookSecret, request: Request[Any, Any, Any]) -> None:
    presented = request.headers.get(SECRET_HEADER)
    if presented is None and (authorization := request.headers.get("authorization")) is not None:
        presented = authorization.replace("Bearer ", "", 1)
    verdict = secret.check(None if presented is None else presented.encode("latin-1"))
    if verdict is Verdict.UNKNOWN:
        raise _busy(503, "the webhook secret is not known yet")
    if verdict is Verdict.MISMATCH:
        raise NotAuthorizedException("Invalid webhook secret")


def _busy(status: int, reason: str) -> HTTPException:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return HTTPException(reason, status_code=status, headers=headers)
