"""Refuses query keys that a route does not declare: a misspelt filter would match everything."""

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

IGNORED = "/v1/admin/analytics/provision-loop"
"""Route that ignores other keys, as the contract requires (1.2)."""


async def refuse_unknown_query_keys(request: Request[Any, Any, Any]) -> None:
    """Refuse keys that the route does not declare (correction C11). Runs after the route's guards.

    It is a coroutine because Litestar calls plain functions in a thread.

    Raises:
        InvalidRequest: the query has an unknown key.
    """
    # Litestar would build `request.url` for each request, at the cost of decoding a webhook.
    path = request.scope["path"]
    if not request.scope["query_string"] or not path.startswith(CHECKED) or path == IGNORED:
        return
    handler = request.scope["route_handler"]
    if handler.opt.get(ANY_QUERY):
        return
    declared = _query_keys(handler)
    unknown = [key for key in request.query_params if key not in declared]
    if unknown:
        expected = f"it takes {', '.join(sorted(declared))}" if declared else "it takes none"
        raise InvalidRequest(f"unknown query key {unknown[0]!r}; {expected}")


def _query_keys(handler: BaseRouteHandler) -> frozenset[str]:
    return frozenset(
        parameter.kwarg_definition.name or name
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    )
