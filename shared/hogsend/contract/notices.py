"""Notices to the operator's webhook: which gateway sends a notice, and which deliveries fail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from hogsend.contract.base import Empty, Message, open_enum
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

NoticeKind = Literal[
    "credential.needs_reconnect",
    "dead_letters.waiting",
    "destination.failing",
    "destination.disabled",
    "spool.in_use",
]
NoticeState = Literal["raised", "resolved"]
Outcome = Literal["claimed", "told", "wait"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Told(Message, frozen=True):
    """A problem that the operator was notified of and that is not resolved yet."""

    kind: Annotated[str, open_enum(NoticeKind)]
    """Kind of the problem. A later version may have stored an unknown one."""
    subject: Name
    """The provider or destination that has the problem."""


class ToldProblems(Message, frozen=True):
    """All problems that the operator was notified of and that are not resolved yet."""

    problems: list[Told]


class ClaimNotice(Message, frozen=True, kw_only=True):
    """Claim a notice: of several gateways only one sends it to the operator's webhook."""

    id: UUID
    """Id of the notice. A repeated request with the same id gets the same reply."""
    kind: NoticeKind
    subject: Name
    """The provider or destination that has the problem."""
    state: NoticeState


class ClaimedNotice(Message, frozen=True):
    """Whether the caller has to send the notice."""

    outcome: Outcome
    """`claimed`: the caller sends it. `told`: another gateway did. `wait`: the operator was
    notified a moment ago that this problem is resolved, so it is too early to report it again."""


class FailingDelivery(Message, frozen=True):
    """A consumer whose deliveries to PostHog fail at present."""

    subject: str
    """Id of the destination, or name of the consumer."""
    since: datetime
    """When the first attempt failed after the last successful one."""


class FailingDeliveries(Message, frozen=True):
    """All consumers whose deliveries fail at present, without paused destinations."""

    failing: list[FailingDelivery]


INGEST_TOLD = Endpoint(
    service=User.INGEST,
    verb="told",
    request=Empty,
    reply=ToldProblems,
    callers=(User.GATEWAY,),
    summary="Unresolved problems that the operator's webhook was notified of.",
)
INGEST_CLAIM_NOTICE = Endpoint(
    service=User.INGEST,
    verb="claim-notice",
    request=ClaimNotice,
    reply=ClaimedNotice,
    callers=(User.GATEWAY,),
    summary="Claim a notice, so that one gateway only sends it to the operator's webhook.",
)
ANALYTICS_FAILING = Endpoint(
    service=User.ANALYTICS,
    verb="failing",
    request=Empty,
    reply=FailingDeliveries,
    callers=(User.GATEWAY,),
    summary="Consumers whose deliveries to PostHog fail, and since when.",
)
