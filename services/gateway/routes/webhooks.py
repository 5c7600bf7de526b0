"""`POST /v1/webhooks/posthog`: accepts PostHog's webhooks (contract 5)."""

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
    """The OpenAPI operation. It describes the body, which the handler decodes without Litestar."""

    def __post_init__(self) -> None:
        """Add the description of the body."""
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
        person = Schema(description="Any value is accepted; an event is never refused for it.")
        body = Schema(
            type=OpenAPIType.OBJECT,
            required=["event"],
            properties={"event": event, "person": person},
        )
        media = {"application/json": OpenAPIMediaType(schema=body)}
        self.request_body = RequestBody(required=True, content=media)
        super().__post_init__()


def posthog_route(deliveries: PostHogDeliveries) -> HTTPRouteHandler:
    """Create the route. It answers deliveries that `with_deliveries` refused."""

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
                description="The body is not as PostHog sends it, has a number out of range, or is "
                "nested too deeply.",
            ),
        },
    )
    async def deliver_posthog_webhook(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Accept one event of PostHog's webhook destination."""
        state = request.scope["state"]
        if REFUSED_STATE in state:
            # The error is removed from the state, and stored in no variable. Otherwise the error
            # and its traceback would refer to each other, only garbage collection would free them
            # and the request, and the connection would stay open until then.
            raise state.pop(REFUSED_STATE)
        # The path has another spelling, which only Litestar's router treats as the same path.
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
