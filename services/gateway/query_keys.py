"""Refuses query keys that a route does not declare, or that a request repeats.

A misspelt filter would match everything. Of a repeated key Litestar uses the last value and other
software the first, so a proxy that checks requests may have checked another value.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from hogsend.contract.errors import InvalidRequest

CHECKED = ("/v1/admin/", "/v1/events", "/v1/contacts", "/v1/flags/")
"""Path prefixes of checked routes. Webhooks and probes are not checked, because other software
builds their URLs and may add keys."""

ANY_QUERY = "any_query"
"""Route option: accept every query key, because all requests get the same answer."""

OTHERS_IGNORED = "other_query_keys_ignored"
"""Route option: ignore undeclared keys, as the contract requires of provisioning (1.2)."""


async def refuse_query_keys(request: Request[Any, Any, Any]) -> None:
    """Refuse undeclared keys (correction C11) and repeated ones. Runs after the route's guards.

    It is a coroutine because Litestar calls plain functions in a thread.

    Raises:
        InvalidRequest: the query has an unknown key, or a declared one several times.
    """
    # Litestar would build `request.url` for each request, at the cost of decoding a webhook.
    if not request.scope["query_string"] or not request.scope["path"].startswith(CHECKED):
        return
    handler = request.scope["route_handler"]
    if handler.opt.get(ANY_QUERY):
        return
    declared = _query_keys(handler)
    for key, values in request.query_params.dict().items():
        if key in declared:
            if len(values) > 1:
                raise InvalidRequest(f"query key {key!r} is given more than once")
        elif not handler.opt.get(OTHERS_IGNORED):
            expected = f"it takes {', '.join(sorted(declared))}" if declared else "it takes none"
            raise InvalidRequest(f"unknown query key {key!r}; {expected}")


def _query_keys(handler: BaseRouteHandler) -> frozenset[str]:
    return frozenset(
        parameter.kwarg_definition.name or name
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    )
