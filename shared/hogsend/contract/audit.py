"""The audit trail: which changes administrators requested, and the result of each.

It never contains the bodies of requests.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Limit, Message, Offset
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

MAX_RESOURCE = 500
"""Maximum characters of a stored resource, so that a hundred entries fit into one reply."""


class AuditEntry(Message, frozen=True, kw_only=True):
    """One request that may have changed something."""

    id: UUID
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    """When the request was received."""
    actor: str
    """Kind of the API key, `full-admin`, `read` or `ingest`, never the key itself.

    For a request over the bus the NATS user, for example `nats:operator`.
    """
    action: str
    """First part of the path, and the method, for example `provider-credentials.put`.

    For a request over the bus its service and verb, for example `ingest.purge`.
    """
    resource: str
    """The changed resource: the rest of the path, for example `posthog`. At most 500 characters."""
    status: int
    """HTTP status of the response. For a request over the bus the equivalent HTTP status."""
    request_id: str
    """`X-Request-Id` of the response, which log lines of the request contain as well."""
    address: str
    """Network address of the client. Empty for a request over the bus, where it is unknown."""


class ListAudit(Message, frozen=True, kw_only=True):
    """Filters of the audit trail; None means any."""

    action: str | None = None
    actor: str | None = None
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """Cursor: `next_before` of the previous page. Unlike `offset`, it is as fast at the end of the
    list as at its start."""


class AuditPage(Message, frozen=True):
    """A page of the audit trail, newest first."""

    entries: list[AuditEntry]
    total: int
    """Number of matching entries on all pages: exact up to 10,000, above that PostgreSQL's
    estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | None = None
    """`before` of the next page; None on the last page."""


ADMIN_REQUEST_AUDITED = Channel(
    subject=subjects.AUDIT,
    stream=StreamName.AUDIT,
    message=AuditEntry,
    publishers=(User.GATEWAY, User.CREDENTIALS, User.PROVISIONER, User.INGEST, User.ANALYTICS),
    subscribers=(User.INGEST,),
    summary="An administrator's request that may have changed something.",
)
INGEST_AUDIT = Endpoint(
    service=User.INGEST,
    verb="audit",
    request=ListAudit,
    reply=AuditPage,
    callers=(User.GATEWAY,),
    summary="A page of the audit trail.",
)
