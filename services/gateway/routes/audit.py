"""`GET /v1/admin/audit`: what administrators changed."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.audit import INGEST_AUDIT, AuditPage, ListAudit
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_only
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation

Filter = Annotated[str | None, QueryParameter(min_length=1, max_length=255)]


@get(
    "/v1/admin/audit",
    guards=[admin_only],
    tags=["Admin"],
    operation_id="listAuditEntries",
    summary="List the audit trail",
    security=[{"adminKey": []}],
    responses=documented(400, 401, 403, 429, 503),
)
async def list_audit(  # noqa: PLR0917 - one parameter a query key
    bus: NamedDependency[Connection],
    request: Request[Any, Any, Any],
    action: Filter = None,
    actor: Filter = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
    offset: Annotated[int, QueryParameter(ge=0, le=1_000_000)] = 0,
) -> AuditPage:
    """List requests that may have changed something, newest first; filters are exact matches."""
    wanted = ListAudit(action=action, actor=actor, limit=limit, offset=offset)
    return await bus.request(INGEST_AUDIT, wanted, headers=correlation(request))
