"""`GET /v1/admin/capabilities`: the spec's degradation table with its current state."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.capabilities import Capabilities
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_or_reader
from services.gateway.capabilities import query
from services.gateway.error_responses import documented_errors
from services.gateway.webhooks.secret import WebhookSecret


@get(
    "/v1/admin/capabilities",
    guards=[admin_or_reader],
    tags=["Admin"],
    operation_id="listCapabilities",
    summary="List what works, what does not, and what to set",
    security=ADMIN_SECURITY + READ_KEY,
    responses=documented_errors(400, 401, 403, 429),
)
async def list_capabilities(
    bus: NamedDependency[Connection],
    signatures_required: NamedDependency[bool],
    webhook_secret: NamedDependency[WebhookSecret],
) -> Capabilities:
    """List every capability. Capabilities of a service that does not reply are `unknown`."""
    capabilities, _ = await query(
        bus, secret_missing=webhook_secret.missing, signatures_required=signatures_required
    )
    return capabilities
