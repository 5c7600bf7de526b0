"""`POST /v1/webhooks/posthog`: accepts what PostHog delivers (contract 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.exceptions import HTTPException, NotAuthorizedException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, RequestBody, Schema
from litestar.params import FromPath

from hogsend.contract.errors import SpoolFull
from services.gateway.error_responses import RETRY_SECONDS, InvalidPayloadBody, documented_errors
from services.gateway.examples import OperationWithExamples
from services.gateway.response_headers import request_id
from services.gateway.webhooks.posthog import parse_posthog, queued_posthog_webhook
from services.gateway.webhooks.refusals import Refusals
from services.gateway.webhooks.secret import SecretCheck, WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.webhook_queue import WebhookQueue

SECRET_HEADER = b"x-posthog-webhook-secret"

_MISSING = (
    "there is no webhook secret: connect PostHog, or set POSTHOG_WEBHOOK_SECRET or WEBHOOK_OPEN"
)
_TEXT = [OpenAPIType.STRING, OpenAPIType.NULL]

_encode = msgspec.json.Encoder().encode


class WebhookAccepted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The event is stored durably."""

    ok: Literal[True] = True
    event: str
    user_id: str


@dataclass
class PostHogDelivery(OperationWithExamples):
    """The OpenAPI operation, with the body that the handler reads and decodes itself."""

    def __post_init__(self) -> None:
        """Describe the body."""
        event = Schema(
            type=OpenAPIType.OBJECT,
            required=["event", "distinct_id"],
            properties={
                "uuid": Schema(type=_TEXT, description="Deduplicates deliveries."),
                "event": Schema(type=OpenAPIType.STRING, examples=["signed_up"]),
                "distinct_id": Schema(type=OpenAPIType.STRING, examples=["u_42"]),
                "timestamp": Schema(type=_TEXT),
                "properties": Schema(type=OpenAPIType.OBJECT),
            },
        )
        person = Schema(description="Read leniently: no value of it makes an event be refused.")
        body = Schema(
            type=OpenAPIType.OBJECT,
            required=["event"],
            properties={"event": event, "person": person},
        )
        media = {"application/json": OpenAPIMediaType(schema=body)}
        self.request_body = RequestBody(required=True, content=media)
        super().__post_init__()


def posthog_route(
    queue: WebhookQueue, secret: WebhookSecret, size: SizeLimit, refusals: Refusals
) -> HTTPRouteHandler:
    """Make PostHog's route.

    It is a closure on a fixed path that answers with bytes: here injection, path parameters and
    Litestar's serializer would cost more than the work itself.
    """

    @post(
        "/v1/webhooks/posthog",
        status_code=200,
        operation_id="deliverPosthogWebhook",
        summary="Deliver a PostHog event",
        tags=["Webhooks"],
        operation_class=PostHogDelivery,
        security=[{"webhookSecret": []}, {}],
        responses={
            200: ResponseSpec(WebhookAccepted, description="The event is durable."),
            **documented_errors(401, 413, 429, 503),
            400: ResponseSpec(InvalidPayloadBody, description="Not what PostHog sends."),
        },
    )
    async def deliver_posthog_webhook(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Accept one event of PostHog's webhook destination."""
        _check_secret(secret, request, refusals)
        body = await request.body()
        size.check(body)
        webhook, body = parse_posthog(body)
        queued = queued_posthog_webhook(webhook, body, datetime.now(UTC), request_id(request))
        try:
            await queue.accept(queued)
        except SpoolFull as error:
            # 429, not 503: PostHog retries a 429 for minutes, a 503 for seconds.
            raise _busy(429, str(error)) from error
        accepted = WebhookAccepted(event=webhook.event.event, user_id=webhook.event.distinct_id)
        return Response(_encode(accepted), media_type=MediaType.JSON)

    return deliver_posthog_webhook


@post(
    "/v1/webhooks/{source:str}",
    status_code=404,
    include_in_schema=False,
)
async def unknown_source(source: FromPath[str]) -> None:  # noqa: ARG001 - only the path matters
    """Answer 404 for every other source."""
    raise NotFoundException("Unknown webhook source")


def _check_secret(
    secret: WebhookSecret, request: Request[Any, Any, Any], refusals: Refusals
) -> None:
    headers = dict(request.scope["headers"])
    presented = headers.get(SECRET_HEADER)
    if presented is None and (authorization := headers.get(b"authorization")) is not None:
        presented = authorization.replace(b"Bearer ", b"", 1)
    check = secret.check(presented)
    if check is SecretCheck.UNKNOWN:
        refusals.unknown()
        raise _busy(503, _MISSING if secret.missing else "the webhook secret is not known yet")
    if check is SecretCheck.MISMATCH:
        refusals.mismatch(request.scope, presented=presented is not None)
        raise NotAuthorizedException("Invalid webhook secret")


def _busy(status: int, reason: str) -> HTTPException:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return HTTPException(reason, status_code=status, headers=headers)
