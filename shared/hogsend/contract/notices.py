"""Notices to the operator: which gateway sends one, and which deliveries fail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from hogsend.contract.base import Empty, Message, one_of
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
    """A problem that the operator was notified of and that is not over."""

    kind: Annotated[str, one_of(NoticeKind)]
    """As it was stored, possibly by a later version."""
    subject: Name
    """Which one: a provider, a destination."""


class ToldProblems(Message, frozen=True):
    """Every problem the operator knows of."""

    problems: list[Told]


class ClaimNotice(Message, frozen=True, kw_only=True):
    """Ask to be the one who tells the operator."""

    id: UUID
    """Of the notice; asking again under it gives the same answer."""
    kind: NoticeKind
    subject: Name
    state: NoticeState


class ClaimedNotice(Message, frozen=True):
    """Whether to tell."""

    outcome: Outcome
    """`claimed`: tell it. `told`: another one did. `wait`: it was told only a moment ago that this
    problem is over."""


class FailingDelivery(Message, frozen=True):
    """A consumer whose events PostHog does not take."""

    subject: str
    """Id of the destination, or the name of the consumer."""
    since: datetime
    """Of the first attempt that failed, with none that succeeded after it."""


class FailingDeliveries(Message, frozen=True):
    """All of them, except paused destinations."""

    failing: list[FailingDelivery]


INGEST_TOLD = Endpoint(
    service=User.INGEST,
    verb="told",
    request=Empty,
    reply=ToldProblems,
    callers=(User.GATEWAY,),
    summary="Problems that the operator's webhook was notified of and that are not over.",
)
INGEST_CLAIM_NOTICE = Endpoint(
    service=User.INGEST,
    verb="claim-notice",
    request=ClaimNotice,
    reply=ClaimedNotice,
    callers=(User.GATEWAY,),
    summary="Be the one gateway that tells the operator's webhook of a problem.",
)
ANALYTICS_FAILING = Endpoint(
    service=User.ANALYTICS,
    verb="failing",
    request=Empty,
    reply=FailingDeliveries,
    callers=(User.GATEWAY,),
    summary="Deliveries to PostHog that fail, and since when.",
)
