"""`GET /v1/admin/events`: stored events, newest first."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.events import INGEST_EVENTS, EventPage, ListEvents
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_or_reader
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation

Filter = Annotated[str | None, QueryParameter(max_length=4096)]


@get(
    "/v1/admin/events",
    guards=[admin_or_reader],
    tags=["Admin"],
    operation_id="listEvents",
    summary="List stored events",
    security=[{"adminKey": []}],
    responses=documented(400, 401, 403, 429, 503),
)
async def list_events(  # noqa: PLR0917 - one parameter a query key
    bus: NamedDependency[Connection],
    request: Request[Any, Any, Any],
    event: Filter = None,
    user_id: Annotated[str | None, QueryParameter(name="userId", max_length=4096)] = None,
    source: Filter = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
    offset: Annotated[int, QueryParameter(ge=0, le=1_000_000)] = 0,
) -> EventPage:
    """List stored events; every filter is an exact match."""
    wanted = ListEvents(event=event, user_id=user_id, source=source, limit=limit, offset=offset)
    return await bus.request(INGEST_EVENTS, wanted, headers=correlation(request))
