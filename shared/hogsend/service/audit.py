"""Adds changes that are requested over NATS to the audit trail.

The gateway records the changes that are requested over HTTP. Requests between services are not
recorded: no user caused them. Every other caller is recorded here. It is identified by the inbox in
the reply subject, because NATS lets each user subscribe only to its own inboxes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from faststream.message import StreamMessage

from hogsend.contract import subjects
from hogsend.contract.audit import MAX_RESOURCE, AuditEntry
from hogsend.contract.errors import HogsendError, status_of
from hogsend.contract.headers import message_headers
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import Endpoint, endpoints
from hogsend.contract.users import DEPRECATED_USERS, User
from hogsend.service import metrics
from hogsend.service.middlewares import CallNext, ErrorReply, ScopeMiddleware
from hogsend.service.nul import text_without_nul
from hogsend.transport.correlation import correlation_id

log = structlog.get_logger(__name__)

Publish = Callable[[str, bytes, dict[str, str]], Coroutine[Any, Any, None]]

OK = 200


class AuditMiddleware(ScopeMiddleware):
    """Records a change before the reply is sent, whether it succeeded or not."""

    def __init__(self, msg: Any, /, *, context: Any, service: User, publish: Publish) -> None:
        super().__init__(msg, context=context)
        self._service = service
        self._publish = publish

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Run the handler, and record its caller unless that is a service."""
        endpoint = (
            None if isinstance(self.msg, list) else _changing_endpoints().get(self.msg.subject)
        )
        if endpoint is None or not self.msg.reply or _is_from_service(endpoint, self.msg.reply):
            return await call_next(msg)
        result = await call_next(msg)
        entry = AuditEntry(
            id=uuid4(),
            at=datetime.now(UTC),
            actor=f"nats:{user_of_inbox(self.msg.reply)}",
            action=f"{endpoint.service}.{endpoint.verb}",
            resource=await _resource(endpoint, msg),
            status=_status(result),
            request_id=correlation_id.get() or "",
            address="",
        )
        await record(self._publish, self._service, entry)
        return result


async def record(publish: Publish, service: str, entry: AuditEntry) -> None:
    """Publish an entry of the audit trail; if that fails, log the entry instead.

    The change has already happened, so a failure must not prevent the reply.
    """
    entry = msgspec.structs.replace(entry, resource=entry.resource[:MAX_RESOURCE])
    headers = message_headers(
        id=str(entry.id),
        source=service,
        type="audit",
        time=entry.at,
        correlation_id=entry.request_id,
    )
    try:
        await publish(subjects.AUDIT, msgspec.json.encode(entry), headers)
    except HogsendError as error:
        metrics.FAILURES.labels("audit", type(error).__name__).inc()
        log.warning("audit entry not kept", **msgspec.to_builtins(entry))


def user_of_inbox(inbox: str) -> str:
    """Return the NATS user that owns an inbox; `unknown` for an inbox without a user's name."""
    name = inbox.partition(".")[0]
    prefix = inbox_prefix("")
    return name.removeprefix(prefix) if name.startswith(prefix) and name != prefix else "unknown"


@cache
def _changing_endpoints() -> dict[str, Endpoint[Any, Any]]:
    return {endpoint.subject: endpoint for endpoint in endpoints() if endpoint.changes}


def _is_from_service(endpoint: Endpoint[Any, Any], inbox: str) -> bool:
    user = user_of_inbox(inbox)
    return any(user in (caller, *_deprecated_names(caller)) for caller in endpoint.callers)


def _deprecated_names(user: User) -> list[str]:
    return [old for old, current in DEPRECATED_USERS.items() if current is user]


async def _resource(endpoint: Endpoint[Any, Any], msg: StreamMessage[Any]) -> str:
    if not endpoint.resource:
        return ""
    try:
        request = await msg.decode()
    except HogsendError:
        # The request was refused with this error.
        return ""
    resource = getattr(request, endpoint.resource)
    return "" if resource is None else text_without_nul(str(resource))


def _status(result: Any) -> int:
    return status_of(result.code) if isinstance(result, ErrorReply) else OK
