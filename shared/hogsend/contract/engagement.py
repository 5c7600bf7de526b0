"""Engagement: what services did with people, such as sending an email, and its types (6.2)."""

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
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
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
"""All types that a destination can subscribe to."""

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
"""Types that the seeded destination subscribes to, in the contract's order (6.1)."""


MAX_ENGAGEMENT_ID = 128
"""Maximum characters of a report's id."""
EngagementId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ENGAGEMENT_ID)]


class Engagement(Message, frozen=True, kw_only=True):
    """A report with all its fields, as it is recorded and sent to destinations (contract 6.2)."""

    id: EngagementId
    """The same on every repetition. One id is recorded once and delivered once."""
    type: str
    """A type of `CATALOG`, such as `email.opened`."""
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    """When it happened."""
    data: Properties


IDENTITIES = ("userId", "anonymousId", "externalId")
"""Fields of `data` that contain the user id, in order of precedence."""
ADDRESSES = ("to", "userEmail", "email")
"""Fields of `data` that contain the email address, in order of precedence."""


def engagement_message_id(engagement: Engagement) -> str:
    """The message id of a report, made of its id, its type and the person it is about."""
    data = engagement.data
    values = (data.get(name) for name in (*IDENTITIES, "id", *ADDRESSES))
    texts = [text for text in values if isinstance(text, str) and text.strip()]
    # A placeholder such as `null` does not distinguish the recipients of one email.
    person = first_user_id(texts) or next(iter(texts), "")
    return event_message_id(
        source="hogsend", id=engagement.id, event=engagement.type, user_id=person
    )


class MalformedEngagement(ValueError):
    """The message is no engagement report, and a retry cannot change that."""


class EngagementReport(Message, frozen=True, kw_only=True):
    """What a service did with a person, as it is published on `hogsend.engagement.<type>`."""

    data: Properties
    """What happened, and to whom: the person's user id is in `userId`, `anonymousId` or
    `externalId`, and the email address in `to`, `userEmail` or `email`."""
    id: EngagementId | None = None
    """The same on every repetition. Without one, the message id takes its place."""
    type: str | None = None
    """The type in the subject, such as `email.opened`; may be omitted."""
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | None = None
    """When it happened (RFC 3339). Without it, the time at which the stream stored the message."""


_decode = decoder(EngagementReport)


def read_engagement(
    subject: str, headers: Mapping[str, str], body: bytes, sequence: int, time: datetime
) -> Engagement:
    """Decode a message of the stream ENGAGEMENT. All readers get the same result.

    Args:
        subject: the subject of the message, which contains the type.
        headers: the headers of the message. Its message id replaces a missing `id`.
        body: an `EngagementReport` as JSON.
        sequence: position in the stream, which replaces a missing message id.
        time: when the stream stored the message. It replaces a `timestamp` that is missing or out
            of range, unless a header of a replayed dead letter has the time of the first message.

    Raises:
        MalformedEngagement: the body cannot be decoded, or it contradicts the subject.
    """
    if is_too_deep(body):
        raise MalformedEngagement("nested too deeply")
    try:
        report = _decode(repaired_json(body))
        timestamp = (parse_moment(report.timestamp) if report.timestamp else None) or (
            read_moment(headers.get(RECEIVED_AT)) or time
        )
    except (*NOT_JSON, ValueError) as error:
        raise MalformedEngagement(str(error)) from error
    subject_type = subject.removeprefix(f"{subjects.ENGAGEMENT}.")
    if report.type not in {None, subject_type}:
        raise MalformedEngagement(f"type {report.type!r} on the subject of {subject_type!r}")
    # The id must be the same for all readers, after a replay and in every version: a report that is
    # read under another id would be recorded and sent twice. Version 0.1.0 and its dead letters
    # have this form, so the time is not part of it, unlike in `position_id`.
    id = report.id or message_id(headers) or f"ENGAGEMENT:{sequence}"
    return Engagement(id=id, type=subject_type, timestamp=timestamp, data=report.data)


ENGAGEMENT_REPORTED = Channel(
    subject=f"{subjects.ENGAGEMENT}.>",
    parameter="type",
    stream=StreamName.ENGAGEMENT,
    message=EngagementReport,
    publishers=(User.APP, User.INGEST, User.ANALYTICS),
    subscribers=(User.INGEST, User.ANALYTICS),
    summary="What a service did with a person; `>` is the type, such as `email.opened`.",
)
