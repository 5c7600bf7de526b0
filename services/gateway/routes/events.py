"""`GET /v1/admin/events`: stored events, the latest that happened first (correction C11)."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.events import INGEST_EVENTS, EventPage, ListEvents
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Before, Limit, Offset
from services.gateway.timestamps import parse_timestamp

Filter = Annotated[str | None, QueryParameter(max_length=4096)]
EARLIEST = QueryParameter(
    name="from", max_length=64, description="Events that happened then or later: ISO 8601."
)
LATEST = QueryParameter(
    name="to", max_length=64, description="Events that happened then or earlier: ISO 8601."
)


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
    earliest: Annotated[str | None, EARLIEST] = None,
    latest: Annotated[str | None, LATEST] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    before: Before = None,
    id: Filter = None,
) -> EventPage:
    """List stored events, the latest that happened first; filters match exactly.

    `nextBefore` is the `before` of the next page, and null on the last. `total` is exact up to
    10,000, with filters up to 1,000; beyond it is an estimate, and `totalEstimated` says so.
    """
    wanted = ListEvents(
        event=event,
        user_id=user_id,
        source=source,
        occurred_from=parse_timestamp(earliest, "from") if earliest is not None else None,
        occurred_to=parse_timestamp(latest, "to") if latest is not None else None,
        limit=limit,
        offset=offset,
        before=before,
        id=id,
    )
    return await bus.request(INGEST_EVENTS, wanted)
