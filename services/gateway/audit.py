"""The audit trail: an admin request that may change state is recorded before its response.

An entry holds the scope of the key, the action, the time and the status, never a body. See
`GET /v1/admin/audit`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hogsend.contract import subjects
from hogsend.contract.audit import AuditEntry
from hogsend.contract.errors import HogsendError
from hogsend.contract.headers import message_headers
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from services.gateway.auth import ACTOR_STATE
from services.gateway.response_headers import REQUEST_ID_STATE

log = structlog.get_logger(__name__)

PREFIX = "/v1/admin/"
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def with_audit_trail(app: ASGIApp, bus: Connection) -> ASGIApp:
    """Wrap `app`. Requests without a known key are refused and counted, but not recorded."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["type"] == ScopeType.HTTP else ""
        if method not in CHANGING or not scope["path"].startswith(PREFIX):
            await app(scope, receive, send)
            return

        async def send_once_recorded(message: Message) -> None:
            actor = scope["state"].get(ACTOR_STATE)
            if message["type"] == "http.response.start" and actor:
                await _record(bus, _entry(scope, method, actor, message["status"]))
            await send(message)

        await app(scope, receive, send_once_recorded)

    return wrapped


def _entry(scope: Scope, method: str, actor: str, status: int) -> AuditEntry:
    area, _, resource = scope["path"].removeprefix(PREFIX).partition("/")
    client = scope.get("client")
    return AuditEntry(
        id=uuid4(),
        at=datetime.now(UTC),
        actor=actor,
        action=f"{area}.{method.lower()}",
        resource=resource.replace("\0", ""),
        status=status,
        request_id=str(scope["state"].get(REQUEST_ID_STATE, "")),
        address=client[0] if client else "",
    )


async def _record(bus: Connection, entry: AuditEntry) -> None:
    headers = message_headers(
        id=str(entry.id),
        source="gateway",
        type="audit",
        time=entry.at,
        correlation_id=entry.request_id,
    )
    try:
        await bus.publish(subjects.AUDIT, msgspec.json.encode(entry), headers)
    except HogsendError as error:
        # The request has taken effect and must be answered, so the log becomes its only record.
        metrics.FAILURES.labels("audit", type(error).__name__).inc()
        log.warning("audit entry not kept", **msgspec.to_builtins(entry))
