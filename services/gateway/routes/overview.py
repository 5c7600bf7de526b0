"""`GET /v1/admin/metrics/overview`: the counts that Hogsend's command `stats` prints."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.directory import INGEST_OVERVIEW, GetOverview, Overview
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.error_responses import admin_errors


@get(
    "/v1/admin/metrics/overview",
    guards=[admin_or_reader],
    operation_id="getOverview",
    summary="Count contacts, events and emails",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=admin_errors(),
)
async def get_overview(bus: NamedDependency[Connection]) -> Overview:
    """Count contacts, events of the last 24 hours, and emails that services reported as engagement.

    Numbers are exact up to 10,000. A larger number is an estimate; `totalContactsEstimated`,
    `events24hEstimated`, `emailsEstimated` or `unsubscribeRateEstimated` is then true.
    """
    return await bus.request(INGEST_OVERVIEW, GetOverview())
