"""Engagement: what services did with people, and which types there are (contract 6.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from hogsend.messages.base import Message, Properties

CATALOG: frozenset[str] = frozenset(
    {
        "contact.created",
        "contact.updated",
        "contact.deleted",
        "contact.unsubscribed",
        "contact.subscribed",
        "contact.control_group",
        "contact.refined",
        "email.sent",
        "email.delivered",
        "email.opened",
        "email.clicked",
        "email.action",
        "email.bounced",
        "email.complained",
        "email.replied",
        "sms.sent",
        "sms.delivered",
        "sms.failed",
        "sms.clicked",
        "journey.completed",
        "journey.heldout",
        "bucket.entered",
        "bucket.left",
        "link.clicked",
        "link.arrived",
        "funnel.stage_changed",
        "deal.quoted",
        "deal.sold",
        "group.identified",
        "group.member_added",
        "group.member_removed",
        "account.linked",
        "account.unlinked",
        "account.link_failed",
        "referral.touched",
        "referral.bound",
        "referral.qualified",
        "referral.converted",
        "referral.tree_converted",
        "referral.rejected",
        "impact.digest",
    }
)
"""Every type a destination can subscribe to."""

FUNNEL: tuple[str, ...] = (
    "email.sent",
    "email.delivered",
    "email.opened",
    "email.clicked",
    "email.action",
    "email.bounced",
    "email.complained",
    "contact.created",
    "contact.updated",
    "contact.unsubscribed",
)
"""What the seeded destination subscribes to, in the contract's order (6.1)."""


class Engagement(Message, frozen=True, kw_only=True):
    """One thing that happened, as it is recorded and sent to destinations (contract 6.2)."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    """The same on every repetition; what is recorded once and delivered once."""
    type: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    data: Properties
