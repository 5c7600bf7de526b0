"""Engagement: what services did with people, and which types there are (contract 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, Properties
from hogsend.contract.headers import RECEIVED_AT, event_message_id, message_id
from hogsend.contract.identity import first_user_id
from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, mended_json
from hogsend.contract.moments import parse_moment, read_moment
from hogsend.contract.registry import Channel
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

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


MAX_ENGAGEMENT_ID = 128
"""Characters of a report's id."""
EngagementId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ENGAGEMENT_ID)]


class Engagement(Message, frozen=True, kw_only=True):
    """One thing that happened, as it is recorded and sent to destinations (contract 6.2)."""

    id: EngagementId
    """The same on every repetition; what is recorded once and delivered once."""
    type: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    data: Properties


IDENTITIES = ("userId", "anonymousId", "externalId")
"""Fields of the data that say whose it is, in order of precedence."""
ADDRESSES = ("to", "userEmail", "email")
"""Fields of the data that have an address, in order of precedence."""


def engagement_message_id(happened: Engagement) -> str:
    """The message id to report engagement with: of this type, to this person, under its id."""
    data = happened.data
    named = (data.get(name) for name in (*IDENTITIES, "id", *ADDRESSES))
    texts = [text for text in named if isinstance(text, str) and text.strip()]
    # An id of no person, such as `null`, does not tell apart those who got one mail.
    who = first_user_id(texts) or next(iter(texts), "")
    return event_message_id(source="hogsend", id=happened.id, event=happened.type, user_id=who)


class MalformedEngagement(ValueError):
    """No engagement, and never will be."""


class EngagementReport(Message, frozen=True, kw_only=True):
    """Engagement as anybody may publish it: its message's id and time stand in for its own."""

    data: Properties
    id: EngagementId | None = None
    type: str | None = None
    """The one that the subject names."""
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | None = None


_decode = decoder(EngagementReport)


def read_engagement(
    subject: str, headers: Mapping[str, str], body: bytes, sequence: int, time: datetime
) -> Engagement:
    """Read a message of the engagement stream; every reader makes the same of it.

    Args:
        subject: what it was published on; says the type.
        headers: its headers; the message id stands in for a missing `id`.
        body: an `EngagementReport`.
        sequence: its position in the stream; stands in for a missing message id.
        time: when the stream took it. The time at which it took it first, which a replayed dead
            letter's headers say, else this one stands in for a missing `timestamp` or one out of
            range.

    Raises:
        MalformedEngagement: it cannot be read, or it contradicts its subject.
    """
    if is_too_deep(body):
        raise MalformedEngagement("nested too deeply")
    try:
        reported = _decode(mended_json(body))
        timestamp = (parse_moment(reported.timestamp) if reported.timestamp else None) or (
            read_moment(headers.get(RECEIVED_AT)) or time
        )
    except (*NOT_JSON, ValueError) as error:
        raise MalformedEngagement(f"{type(error).__name__}: {error}") from error
    named = subject.removeprefix(f"{subjects.ENGAGEMENT}.")
    if reported.type not in {None, named}:
        raise MalformedEngagement(f"type {reported.type!r} on the subject of {named!r}")
    # Ids from the bus itself are the same for all who read the message, and after a replay. The
    # time is no part of it, as it is of `place_id`: 0.1.0 and earlier dead letters say this, and a
    # report that is read again under another id would be recorded and sent twice.
    id = reported.id or message_id(headers) or f"ENGAGEMENT:{sequence}"
    return Engagement(id=id, type=named, timestamp=timestamp, data=reported.data)


ENGAGEMENT_REPORTED = Channel(
    subject=f"{subjects.ENGAGEMENT}.>",
    parameter="type",
    stream=StreamName.ENGAGEMENT,
    message=EngagementReport,
    publishers=(User.APP, User.INGEST, User.ANALYTICS),
    subscribers=(User.INGEST, User.ANALYTICS),
    summary="Something services did with a person; the last tokens are its type.",
)
