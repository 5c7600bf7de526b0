"""The audit trail: what administrators changed, and how it ended. Never what they sent."""

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
"""Characters of a resource that are kept: a hundred entries have to fit into one answer."""


class AuditEntry(Message, frozen=True, kw_only=True):
    """One request that may have changed something."""

    id: UUID
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    actor: str
    """Which key it carried: `full-admin`, `read` or `ingest`, never the key.

    Over the bus the NATS user who asked, for example `nats:operator`.
    """
    action: str
    """First part of the path and method, for example `provider-credentials.put`.

    Over the bus service and verb, for example `ingest.purge`.
    """
    resource: str
    """The rest of the path, for example `posthog`; at most its first 500 characters."""
    status: int
    """HTTP status it was answered with, or over the bus what HTTP would have answered."""
    request_id: str
    address: str
    """Where it came from; empty over the bus, where NATS does not say."""


class ListAudit(Message, frozen=True, kw_only=True):
    """A page of the trail, newest first; None means any."""

    action: str | None = None
    actor: str | None = None
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """`next_before` of the page before this one; as fast at the end of the list as at its head."""


class AuditPage(Message, frozen=True):
    """A page of the trail, newest first."""

    entries: list[AuditEntry]
    total: int
    """How many entries match on all pages: exact up to 10,000, else PostgreSQL's estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | None = None
    """`before` of the next page; None on the last."""


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
