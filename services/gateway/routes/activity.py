"""`GET /v1/admin/activity`: what the services did in the last hour."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from services.gateway.activity.documents import ActivityReport
from services.gateway.activity.log import ActivityLog
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import documented_errors


@get(
    "/v1/admin/activity",
    guards=[admin_or_reader],
    operation_id="getActivity",
    summary="Show rates, what waits and how long it took, over the last hour",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=documented_errors(400, 401, 403, 429),
)
async def get_activity(activity: NamedDependency[ActivityLog]) -> ActivityReport:
    """Show what the services did, as this gateway has seen it since it started.

    They are asked every ten seconds, all processes of each. Without an answer a rate is
    null: a service that does not run has no rate of 0.
    """
    return activity.report()
