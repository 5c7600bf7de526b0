"""The OpenAPI description of the operator's webhook, a request that the gateway sends."""

from __future__ import annotations

from typing import get_args

from litestar.openapi.spec import (
    Example,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    PathItem,
    RequestBody,
    Schema,
)

from hogsend.contract.notices import NoticeKind, NoticeState

_NOTICE = Schema(
    type=OpenAPIType.OBJECT,
    required=["type", "timestamp", "data"],
    properties={
        # Not an enum, because later versions may add kinds.
        "type": Schema(
            type=OpenAPIType.STRING,
            description="Kind of the problem. Later versions may send others.",
            examples=list(get_args(NoticeKind)),
        ),
        "timestamp": Schema(
            type=OpenAPIType.STRING,
            format=OpenAPIFormat.DATE_TIME,
            description="When the gateway found that the problem had started or ended.",
        ),
        "data": Schema(
            type=OpenAPIType.OBJECT,
            required=["state", "subject", "detail", "remediation"],
            properties={
                "state": Schema(
                    type=OpenAPIType.STRING,
                    enum=list(get_args(NoticeState)),
                    description="`raised`: the problem started. `resolved`: it ended.",
                ),
                "subject": Schema(
                    type=OpenAPIType.STRING,
                    description="What has the problem: the provider, `dead-letters`, the id of a "
                    "destination, or the host name of a gateway.",
                ),
                "detail": Schema(
                    type=OpenAPIType.STRING, description="The problem, or its end, in words."
                ),
                "remediation": Schema(
                    type=[OpenAPIType.STRING, OpenAPIType.NULL],
                    description="What an operator can do; null when the problem is resolved.",
                ),
            },
        ),
    },
)
_EXAMPLE = {
    "type": "dead_letters.waiting",
    "timestamp": "2026-11-26T09:40:00Z",
    "data": {
        "state": "raised",
        "subject": "dead-letters",
        "detail": "3 messages could not be processed and wait as dead letters.",
        "remediation": "Run `hogsend dlq list`.",
    },
}

WEBHOOKS: dict[str, PathItem] = {
    "operatorNotice": PathItem(
        post=Operation(
            operation_id="operatorNotice",
            tags=["Operator"],
            summary="Notify the operator that a problem started or ended",
            description="Sent to `OPERATOR_WEBHOOK_URL`, signed by Standard Webhooks "
            "(docs/operator-webhook.md).",
            request_body=RequestBody(
                required=True,
                content={
                    "application/json": OpenAPIMediaType(
                        schema=_NOTICE, examples={"raised": Example(value=_EXAMPLE)}
                    )
                },
            ),
            responses={
                "2XX": OpenAPIResponse(description="Accepted. Any other response is retried.")
            },
        )
    )
}
