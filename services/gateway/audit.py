"""The audit trail: an admin request that may change state is recorded before its response.

Which requests those are follows from what was routed, not from the path as it was written: whatever
an admin route's guard let in, or refused for its scope, is recorded unless its method only reads.
An export of a person is recorded, too.

An entry holds the scope of the key, the action, the time and the status, never a body. See
`GET /v1/admin/audit`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hogsend.contract.audit import AuditEntry
from hogsend.service.audit import record
from hogsend.service.nul import text_without_nul
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_STATE
from services.gateway.client_address import ClientAddresses
from services.gateway.response_headers import REQUEST_ID_STATE

PREFIX = ("v1", "admin")
READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


RECORDED_STATE = "recorded"


async def recorded(
    connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler
) -> None:
    """Guard of a route that only reads, and is recorded nonetheless."""
    connection.scope["state"][RECORDED_STATE] = True


def with_audit_trail(app: ASGIApp, bus: Connection, addresses: ClientAddresses) -> ASGIApp:
    """Wrap `app`. Requests without a known key are refused and counted, but not recorded."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        method = scope["method"]
        reads = method in READING

        async def send_once_recorded(message: Message) -> None:
            state = scope["state"]
            actor = state.get(ADMIN_STATE) if not reads or RECORDED_STATE in state else None
            if message["type"] == "http.response.start" and actor:
                entry = _entry(scope, method, actor, message["status"], addresses)
                await record(bus.publish, "gateway", entry)
            await send(message)

        await app(scope, receive, send_once_recorded)

    return wrapped


def _entry(
    scope: Scope, method: str, actor: str, status: int, addresses: ClientAddresses
) -> AuditEntry:
    # As Litestar routes it: slashes more or less make no difference.
    segments = [segment for segment in scope["path"].split("/") if segment]
    for expected in PREFIX:
        if segments and segments[0] == expected:
            segments = segments[1:]
    area, resource = segments[0] if segments else "", "/".join(segments[1:])
    return AuditEntry(
        id=uuid4(),
        at=datetime.now(UTC),
        actor=actor,
        action=f"{area}.{method.lower()}",
        resource=text_without_nul(resource),
        status=status,
        request_id=str(scope["state"].get(REQUEST_ID_STATE, "")),
        address=addresses.of(scope),
    )
