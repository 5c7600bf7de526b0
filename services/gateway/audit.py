"""The audit trail: admin requests that may change state are recorded before their response is sent.

A request is recorded if the guard of an admin route accepted its key, or refused the key's scope,
and if its method is not a read. That depends on the route that handled the request, not on the path
as the client wrote it. An export of a person is recorded as well, although it only reads.

An entry contains the scope of the key, the action, the time and the status, but no body. See
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
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

RECORDED_STATE = "recorded"
"""Key of the request's state: the request is recorded although its method is a read."""


async def recorded(
    connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler
) -> None:
    """Guard of a route whose requests are recorded although they only read."""
    connection.scope["state"][RECORDED_STATE] = True


def with_audit_trail(app: ASGIApp, bus: Connection, addresses: ClientAddresses) -> ASGIApp:
    """Wrap `app` so that admin requests that may change state are recorded before the response.

    Requests without a valid key are not recorded.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        method = scope["method"]
        is_read = method in READ_METHODS

        async def send_after_recording(message: Message) -> None:
            state = scope["state"]
            actor = state.get(ADMIN_STATE) if not is_read or RECORDED_STATE in state else None
            if message["type"] == "http.response.start" and actor:
                entry = _entry(scope, method, actor, message["status"], addresses)
                await record(bus.publish, "gateway", entry)
            await send(message)

        await app(scope, receive, send_after_recording)

    return wrapped


def _entry(
    scope: Scope, method: str, actor: str, status: int, addresses: ClientAddresses
) -> AuditEntry:
    # Like Litestar's router, ignore repeated and trailing slashes.
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
