"""The directory of contacts: what Hogsend's own command and client ask about people.

Shapes and names are those of Hogsend 0.67 (`packages/cli` and `packages/client`), with what this
product knows besides. See `docs/from-hogsend.md`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

from hogsend.contract.base import Limit, Message, Offset, Properties
from hogsend.contract.contacts import ContactRecord
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

EntryType: TypeAlias = Literal["event", "journey", "email"]


class ListContacts(Message, frozen=True, kw_only=True):
    """Which contacts; without a filter all of them. `key` wins over `user_id` and `email`."""

    search: str | None = None
    """What the email address, the first user id or the id begins with, in any case; among the
    10,000 contacts that were made last, any part of them."""
    key: str | None = None
    """A user id, a contact's id or an email address."""
    user_id: str | None = None
    email: str | None = None
    order: Literal["lastSeen", "created"] = "lastSeen"
    """What comes first: who was seen last, or who was made last. The second is as fast with many
    contacts as with few."""
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """`next_before` of the page before this one, in the order `created`."""


class ContactPage(Message, frozen=True, kw_only=True):
    """A page of contacts."""

    contacts: list[ContactRecord]
    total: int
    """How many match on all pages: exact up to 10,000, else PostgreSQL's estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | msgspec.UnsetType | None = msgspec.UNSET
    """`before` of the next page, in the order `created`; null on the last."""


class ListTimeline(Message, frozen=True, kw_only=True):
    """What happened to a contact; `type` None means everything."""

    key: str
    """A user id, a contact's id or an email address."""
    type: EntryType | None = None
    limit: Limit = 50
    offset: Offset = 0


class TimelineEntry(Message, frozen=True, kw_only=True):
    """One thing that happened to a contact."""

    type: EntryType
    """`email` for reported engagement with emails; `journey` never, there are none here."""
    timestamp: datetime
    data: Properties
    """`id`, `event`, `source` and `properties`; of an email also `subject`, `templateKey`,
    `toEmail` and `status`, which is `sent`, `opened` and so on."""


class Timeline(Message, frozen=True, kw_only=True):
    """A page of what happened to a contact, the latest first."""

    timeline: list[TimelineEntry]
    total: int
    limit: int
    offset: int


class GetOverview(Message, frozen=True, kw_only=True):
    """Count everything, as of now."""


class Overview(Message, frozen=True, kw_only=True):
    """Counts of the whole instance. Emails are those that were reported as engagement."""

    total_contacts: int
    """Exact up to 10,000, else PostgreSQL's estimate."""
    total_contacts_estimated: bool = False
    events24h: int = msgspec.field(name="events24h")
    """Events of every source that happened in the last 24 hours: exact up to 10,000, else
    PostgreSQL's estimate."""
    events24h_estimated: bool = msgspec.field(name="events24hEstimated", default=False)
    active_journeys: int = 0
    """Always 0: there is no journey engine here."""
    emails_sent24h: int = msgspec.field(name="emailsSent24h")
    emails_sent7d: int = msgspec.field(name="emailsSent7d")
    emails_sent30d: int = msgspec.field(name="emailsSent30d")
    emails_estimated: bool = False
    """Whether there are so many that the latest were counted, and the others estimated: numbers and
    `bounceRate30d`."""
    bounce_rate30d: float = msgspec.field(name="bounceRate30d")
    """Bounced emails by sent ones, of the last 30 days; 0 when none was sent."""
    unsubscribe_rate: float
    """Contacts that were last reported as unsubscribed, by all contacts."""
    unsubscribe_rate_estimated: bool = False


class RecordContact(Message, frozen=True, kw_only=True):
    """What is known about a person; `user_id` or `email` must say whom it is about."""

    user_id: str = ""
    email: str | None = None
    properties: Properties = {}
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]


class ContactRecorded(Message, frozen=True, kw_only=True):
    """The contact is stored."""

    id: str
    created: bool
    linked: bool
    """Whether a user id or an address was added to a contact that existed, or two became one."""


INGEST_LIST_CONTACTS = Endpoint(
    service=User.INGEST,
    verb="list-contacts",
    request=ListContacts,
    reply=ContactPage,
    callers=(User.GATEWAY,),
    summary="A page of contacts.",
    deadline=10.0,
)
INGEST_TIMELINE = Endpoint(
    service=User.INGEST,
    verb="timeline",
    request=ListTimeline,
    reply=Timeline,
    callers=(User.GATEWAY,),
    summary="What happened to a contact.",
    deadline=10.0,
)
INGEST_OVERVIEW = Endpoint(
    service=User.INGEST,
    verb="overview",
    request=GetOverview,
    reply=Overview,
    callers=(User.GATEWAY,),
    summary="Counts of contacts, events and reported emails.",
    deadline=10.0,
)
INGEST_RECORD_CONTACT = Endpoint(
    service=User.INGEST,
    verb="record-contact",
    request=RecordContact,
    reply=ContactRecorded,
    callers=(User.GATEWAY,),
    summary="Store what is known about a person, and announce it.",
    deadline=5.0,
)
