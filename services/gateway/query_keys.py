"""Query keys that a route does not know are refused: a misspelt filter would match everything."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from hogsend.contract.errors import InvalidRequest

CHECKED = ("/v1/admin/", "/v1/events", "/v1/contacts", "/v1/flags/")
"""Where: not on webhooks and probes, whose URLs others write and may add to."""

ANY_QUERY = "any_query"
"""Option of a route that takes every query key, because it answers all requests alike."""

IGNORED = "/v1/admin/analytics/provision-loop"
"""Here the contract says that other keys are ignored (1.2)."""


async def refuse_unknown_query_keys(request: Request[Any, Any, Any]) -> None:
    """Refuse keys that the route does not declare (correction C11); called after its guards.

    It is a coroutine because Litestar calls plain functions in a thread.

    Raises:
        InvalidRequest: there is one.
    """
    # `request.url` would be built for every request, and costs as much as reading a webhook.
    path = request.scope["path"]
    if not request.scope["query_string"] or not path.startswith(CHECKED) or path == IGNORED:
        return
    handler = request.scope["route_handler"]
    if handler.opt.get(ANY_QUERY):
        return
    known = _query_keys(handler)
    unknown = [key for key in request.query_params if key not in known]
    if unknown:
        expected = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise InvalidRequest(f"unknown query key {unknown[0]!r}; {expected}")


def _query_keys(handler: BaseRouteHandler) -> frozenset[str]:
    return frozenset(
        parameter.kwarg_definition.name or name
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    )
