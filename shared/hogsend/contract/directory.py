"""The directory of contacts: lists, timelines and counts for the command line and HTTP clients.

Messages and names are those of Hogsend 0.67 (`packages/cli` and `packages/client`), with some more
fields. See `docs/from-hogsend.md`.
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
    """List contacts; without a filter all of them. `key` takes precedence over the other ids."""

    search: str | None = None
    """Prefix of the email address, the first user id or the contact's id, in any case. Among the
    10,000 contacts that were created last, any part of these matches."""
    key: str | None = None
    """A user id, a contact's id or an email address."""
    user_id: str | None = None
    email: str | None = None
    order: Literal["lastSeen", "created"] = "lastSeen"
    """`lastSeen`: the contact seen last comes first. `created`: the contact created last comes
    first, which is as fast with many contacts as with few."""
    limit: Limit = 50
    offset: Offset = 0
    before: str | None = None
    """Cursor: `next_before` of the previous page. Only with the order `created`."""


class ContactPage(Message, frozen=True, kw_only=True):
    """A page of contacts."""

    contacts: list[ContactRecord]
    total: int
    """Number of matching contacts on all pages: exact up to 10,000, above that PostgreSQL's
    estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | msgspec.UnsetType | None = msgspec.UNSET
    """`before` of the next page, with the order `created`; null on the last page."""


class ListTimeline(Message, frozen=True, kw_only=True):
    """List what happened to a contact, newest first; `type` None means all types."""

    key: str
    """A user id, a contact's id or an email address."""
    type: EntryType | None = None
    limit: Limit = 50
    offset: Offset = 0


class TimelineEntry(Message, frozen=True, kw_only=True):
    """One thing that happened to a contact."""

    type: EntryType
    """`email` is reported engagement with an email. `journey` does not occur: there are no
    journeys here."""
    timestamp: datetime
    """When the event happened."""
    data: Properties
    """`id`, `event`, `source` and `properties`. An email also has `subject`, `templateKey`,
    `toEmail` and `status`, such as `sent` or `opened`."""


class Timeline(Message, frozen=True, kw_only=True):
    """A page of what happened to a contact, newest first."""

    timeline: list[TimelineEntry]
    total: int
    """Number of matching entries on all pages."""
    limit: int
    offset: int


class GetOverview(Message, frozen=True, kw_only=True):
    """Count contacts, events and emails."""


class Overview(Message, frozen=True, kw_only=True):
    """Counts of the whole instance. Emails are those that were reported as engagement."""

    total_contacts: int
    """Number of contacts: exact up to 10,000, above that PostgreSQL's estimate."""
    total_contacts_estimated: bool = False
    events24h: int = msgspec.field(name="events24h")
    """Number of events of all sources that happened in the last 24 hours: exact up to 10,000, above
    that PostgreSQL's estimate."""
    events24h_estimated: bool = msgspec.field(name="events24hEstimated", default=False)
    active_journeys: int = 0
    """Always 0: there is no journey engine here."""
    emails_sent24h: int = msgspec.field(name="emailsSent24h")
    emails_sent7d: int = msgspec.field(name="emailsSent7d")
    emails_sent30d: int = msgspec.field(name="emailsSent30d")
    emails_estimated: bool = False
    """Whether the email counts and `bounceRate30d` are estimates, because there are too many emails
    to count all of them."""
    bounce_rate30d: float = msgspec.field(name="bounceRate30d")
    """Bounced emails divided by sent emails, of the last 30 days; 0 if none was sent."""
    unsubscribe_rate: float
    """Contacts that were last reported as unsubscribed, divided by all contacts."""
    unsubscribe_rate_estimated: bool = False


class RecordContact(Message, frozen=True, kw_only=True):
    """Store properties of a person. `user_id` or `email` is required."""

    user_id: str = ""
    email: str | None = None
    properties: Properties = {}
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]


class ContactRecorded(Message, frozen=True, kw_only=True):
    """The contact is stored."""

    id: str
    """Id of the contact."""
    created: bool
    """Whether the contact is new."""
    linked: bool
    """Whether a user id or an email was added to an existing contact, or two were merged."""


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
    summary="Store properties of a person, and announce the change.",
    deadline=5.0,
)
