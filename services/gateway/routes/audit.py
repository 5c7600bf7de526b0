"""`GET /v1/admin/audit`: lists the audit trail of admin requests."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from hogsend.contract.audit import INGEST_AUDIT, AuditPage, ListAudit
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Before, Limit, Offset

ACTION = QueryParameter(
    min_length=1,
    max_length=255,
    description="Only requests with this action, for example `provider-credentials.put`.",
)
ACTOR = QueryParameter(
    min_length=1,
    max_length=255,
    description="Only requests of this actor, for example `full-admin` or `nats:operator`.",
)


@get(
    "/v1/admin/audit",
    guards=[admin_only],
    operation_id="listAuditEntries",
    summary="List the audit trail",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(400),
)
async def list_audit_entries(  # noqa: PLR0917 - one parameter a query key
    bus: NamedDependency[Connection],
    action: Annotated[str | None, ACTION] = None,
    actor: Annotated[str | None, ACTOR] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    before: Before = None,
) -> AuditPage:
    """List admin requests that may have changed something, newest first. Filters match exactly.

    `nextBefore` is the value of `before` for the next page, and null on the last page. `total` is
    exact up to 10,000; above that it is an estimate, and `totalEstimated` is true.
    """
    query = ListAudit(action=action, actor=actor, limit=limit, offset=offset, before=before)
    return await bus.request(INGEST_AUDIT, query)
