"""Response headers in the OpenAPI document, which `response_headers` and error responses set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIType,
    Reference,
    Schema,
    SecurityRequirement,
)

COMPONENTS: Mapping[str, OpenAPIHeader] = {
    "X-Request-Id": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.STRING),
        required=True,
        description="Id of this request, which every message and log line that it causes "
        "contains. A client's own id is used if it has at most 100 letters, digits and `_.:-`.",
    ),
    "Retry-After": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        required=True,
        description="Seconds after which the request may be retried.",
    ),
    "X-RateLimit-Limit": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        description="Requests a minute that all keys of this scope may make together "
        "(`ADMIN_RATE_LIMIT`). Absent if the key was not accepted.",
    ),
    "X-RateLimit-Remaining": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=0),
        description="Requests that remain within this minute.",
    ),
}

_LIMITED = frozenset({"adminKey", "readKey"})
"""Security schemes with a rate limit. Routes that also accept other keys have none."""


def headers_of(
    status: str, security: Sequence[SecurityRequirement] | None
) -> dict[str, OpenAPIHeader | Reference]:
    """Return the headers of a route's response.

    Args:
        status: the response's status as text, as in OpenAPI.
        security: the route's security schemes; none for probes and documents.
    """
    schemes = {scheme for requirement in security or () for scheme in requirement}
    names = ["X-Request-Id"]
    if schemes and status in {"429", "503"}:
        names.append("Retry-After")
    if schemes and schemes <= _LIMITED and status not in {"401", "403"}:
        names += ["X-RateLimit-Limit", "X-RateLimit-Remaining"]
    return {name: Reference(ref=f"#/components/headers/{name}") for name in names}
