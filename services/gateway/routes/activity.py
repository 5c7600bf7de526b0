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
    summary="Show rates, queues and latencies of the last hour",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=documented_errors(400, 401, 403, 429),
)
async def get_activity(activity: NamedDependency[ActivityLog]) -> ActivityReport:
    """Show the activity of the services, as measured by this gateway since it started.

    The gateway queries all processes of all services every ten seconds. A rate is null if a process
    did not reply, because the rate of the service is then unknown.
    """
    return activity.report()
