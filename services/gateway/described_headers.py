"""Headers of answers in the OpenAPI document: what `response_headers` and the error bodies add."""

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
        description="Id of this request, in every message and log line that it causes. A "
        "client's own is kept: up to 100 letters, digits and `_.:-`.",
    ),
    "Retry-After": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        required=True,
        description="Seconds after which it is worth trying again.",
    ),
    "X-RateLimit-Limit": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        description="Requests a minute that keys of this scope may make (`ADMIN_RATE_LIMIT`). "
        "Absent where the key was not accepted.",
    ),
    "X-RateLimit-Remaining": OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=0),
        description="How many of them are left.",
    ),
}

_LIMITED = frozenset({"adminKey", "readKey"})
"""Schemes whose keys have a limit; a route that takes others, too, has none."""


def headers_of(
    status: str, security: Sequence[SecurityRequirement] | None
) -> dict[str, OpenAPIHeader | Reference]:
    """Give the headers of a route's answer with that status.

    Args:
        status: as OpenAPI writes it.
        security: what the route asks for; nothing for probes and documents.
    """
    schemes = {scheme for requirement in security or () for scheme in requirement}
    names = ["X-Request-Id"]
    if schemes and status in {"429", "503"}:
        names.append("Retry-After")
    if schemes and schemes <= _LIMITED and status not in {"401", "403"}:
        names += ["X-RateLimit-Limit", "X-RateLimit-Remaining"]
    return {name: Reference(ref=f"#/components/headers/{name}") for name in names}
