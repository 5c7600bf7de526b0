"""`POST /v1/webhooks/posthog`: accepts what PostHog delivers (contract 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import MediaType, Request, Response, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, RequestBody, Schema
from litestar.params import FromPath

from hogsend.contract.webhooks import WEBHOOK_PATH
from services.gateway.error_responses import InvalidPayloadBody, documented_errors
from services.gateway.examples import DescribedOperation
from services.gateway.webhooks.deliveries import (
    REFUSED_STATE,
    PostHogDeliveries,
    WebhookAccepted,
)

_TEXT = [OpenAPIType.STRING, OpenAPIType.NULL]


@dataclass
class PostHogDelivery(DescribedOperation):
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


def posthog_route(deliveries: PostHogDeliveries) -> HTTPRouteHandler:
    """Make PostHog's route, which answers what is refused before it (`with_deliveries`)."""

    @post(
        WEBHOOK_PATH,
        status_code=200,
        operation_id="deliverPosthogWebhook",
        summary="Deliver a PostHog event",
        tags=["Webhooks"],
        operation_class=PostHogDelivery,
        security=[{"webhookSecret": []}, {}],
        responses={
            200: ResponseSpec(WebhookAccepted, description="The event is durable."),
            **documented_errors(401, 413, 429, 503),
            400: ResponseSpec(
                InvalidPayloadBody,
                description="Not what PostHog sends, a number out of range, or nested too deeply.",
            ),
        },
    )
    async def deliver_posthog_webhook(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Accept one event of PostHog's webhook destination."""
        state = request.scope["state"]
        if REFUSED_STATE in state:
            # Taken out, and kept in no variable: an error that its own traceback leads back to is
            # freed late, and with it the request. Until then the connection stays open.
            raise state.pop(REFUSED_STATE)
        # The path was spelt in another way that Litestar takes for the same.
        accepted = await deliveries.accept(request.scope, request.receive)
        return Response(accepted, media_type=MediaType.JSON)

    return deliver_posthog_webhook


@post(
    "/v1/webhooks/{source:str}",
    status_code=404,
    include_in_schema=False,
)
async def unknown_source(source: FromPath[str]) -> None:  # noqa: ARG001 - only the path matters
    """Answer 404 for every other source."""
    raise NotFoundException("Unknown webhook source")
