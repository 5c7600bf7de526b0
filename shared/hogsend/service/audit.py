"""Records changes that a service is asked for over the bus, past the gateway.

The gateway records what it was asked over HTTP, and services that ask one another act on behalf of
no user. All other callers are recorded here, by the NATS user in whose inbox the answer is awaited:
NATS lets each user hear its own inbox alone.
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
    """Records a change before it is answered, whatever became of it."""

    def __init__(self, msg: Any, /, *, context: Any, service: User, publish: Publish) -> None:
        super().__init__(msg, context=context)
        self._service = service
        self._publish = publish

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Run the handler; record who asked, unless the gateway does."""
        endpoint = None if isinstance(self.msg, list) else _changing().get(self.msg.subject)
        if endpoint is None or not self.msg.reply or _asked_by_caller(endpoint, self.msg.reply):
            return await call_next(msg)
        result = await call_next(msg)
        entry = AuditEntry(
            id=uuid4(),
            at=datetime.now(UTC),
            actor=f"nats:{asker(self.msg.reply)}",
            action=f"{endpoint.service}.{endpoint.verb}",
            resource=await _resource(endpoint, msg),
            status=_status(result),
            request_id=correlation_id.get() or "",
            address="",
        )
        await record(self._publish, self._service, entry)
        return result


async def record(publish: Publish, service: str, entry: AuditEntry) -> None:
    """Keep an entry of the audit trail; where that fails, the log becomes its only record.

    The change is made, and must be answered all the same.
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


def asker(inbox: str) -> str:
    """Name of the NATS user an inbox belongs to; `unknown` for one that is not named by us."""
    name = inbox.partition(".")[0]
    prefix = inbox_prefix("")
    return name.removeprefix(prefix) if name.startswith(prefix) and name != prefix else "unknown"


@cache
def _changing() -> dict[str, Endpoint[Any, Any]]:
    return {one.subject: one for one in endpoints() if one.changes}


def _asked_by_caller(endpoint: Endpoint[Any, Any], inbox: str) -> bool:
    asking = asker(inbox)
    return any(asking in (caller, *_earlier_names(caller)) for caller in endpoint.callers)


def _earlier_names(user: User) -> list[str]:
    return [old for old, current in DEPRECATED_USERS.items() if current is user]


async def _resource(endpoint: Endpoint[Any, Any], msg: StreamMessage[Any]) -> str:
    if not endpoint.resource:
        return ""
    try:
        asked = await msg.decode()
    except HogsendError:
        # Refused for the same reason, and answered so.
        return ""
    named = getattr(asked, endpoint.resource)
    return "" if named is None else text_without_nul(str(named))


def _status(result: Any) -> int:
    return status_of(result.code) if isinstance(result, ErrorReply) else OK
