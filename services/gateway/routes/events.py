"""`GET /v1/admin/events`: stored events, newest first."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.events import INGEST_EVENTS, EventPage, ListEvents
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Limit, Offset

Filter = Annotated[str | None, QueryParameter(max_length=4096)]


@get(
    "/v1/admin/events",
    guards=[admin_or_reader],
    operation_id="listEvents",
    summary="List stored events",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(400),
)
async def list_events(  # noqa: PLR0917 - one parameter a query key
    bus: NamedDependency[Connection],
    event: Filter = None,
    user_id: Annotated[str | None, QueryParameter(name="userId", max_length=4096)] = None,
    source: Filter = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> EventPage:
    """List stored events; filters match exactly."""
    wanted = ListEvents(event=event, user_id=user_id, source=source, limit=limit, offset=offset)
    return await bus.request(INGEST_EVENTS, wanted)
