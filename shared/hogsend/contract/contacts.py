"""Contacts: what is known about people, and which of their identities were merged."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Empty, Message, Properties
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User


class ContactRef(Message, frozen=True, kw_only=True):
    """Which contact is meant: by any user id it is known by."""

    user_id: str


class Contact(Message, frozen=True, kw_only=True):
    """What is known about one person; everything is empty when no contact has that key."""

    contact_key: str | None = None
    email: str | None = None
    timezone: str | None = None
    """IANA zone of the contact's own column."""
    properties: Properties = {}


class FillTimezone(Message, frozen=True, kw_only=True):
    """Give a contact without a time zone one."""

    user_id: str
    timezone: str


class FindContacts(Message, frozen=True, kw_only=True):
    """Which contacts are meant: by a user id, the contact's own id, or an email address."""

    key: Annotated[str, msgspec.Meta(min_length=1)]


class SplitContacts(Message, frozen=True, kw_only=True):
    """Undo a merge."""

    merge_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ContactKey(Message, frozen=True, kw_only=True):
    """A text that leads to a contact."""

    kind: Literal["external", "email", "row"]
    """A user id, an email address, or the id of a contact that was merged into this one."""
    value: str
    """At most its first 200 characters."""


class ContactMerge(Message, frozen=True, kw_only=True):
    """A contact that became part of another."""

    id: int
    at: datetime
    contact_id: str
    """Id of the contact that was merged away."""
    keys: list[ContactKey]
    """What led to it, at most 20 of them."""
    split_at: datetime | None = None
    """When the merge was undone."""


class ContactRecord(Message, frozen=True, kw_only=True):
    """A contact as it is stored."""

    id: str
    contact_key: str
    """What other services know it by: its first user id, else its id."""
    external_id: str | None
    """Its first user id."""
    anonymous_id: None = None
    """There are no anonymous ids here: PostHog's are user ids like others."""
    email: str | None
    timezone: str | None
    properties: Properties
    first_seen_at: datetime
    last_seen_at: datetime
    created_at: datetime
    updated_at: datetime


class Origin(Message, frozen=True, kw_only=True):
    """Which event something that is known comes from."""

    at: datetime
    """When that happened, or was received if that was earlier: later ones win."""
    event_id: str
    """At most its first 200 characters."""


class ContactDetails(ContactRecord, frozen=True, kw_only=True):
    """A contact as an operator sees it."""

    keys: list[ContactKey]
    """At most 200 of them."""
    key_count: int
    merges: list[ContactMerge]
    """The latest 100 that it comes from, the latest first, those that were undone included."""
    origins: dict[str, Origin] = {}
    """Of each property."""
    email_origin: Origin | None = None


class ContactList(Message, frozen=True, kw_only=True):
    """Contacts with what they are known by."""

    contacts: list[ContactDetails]


class EraseContact(Message, frozen=True, kw_only=True):
    """Erase a person, by the id of the contact or of one that was merged into it."""

    contact_id: UUID


class ErasurePreview(Message, frozen=True, kw_only=True):
    """What an erasure would delete now."""

    contact_id: str
    keys: int
    merges: int
    events: int
    messages: dict[str, int]
    """By stream; those without any are left out."""


class Erasure(Message, frozen=True, kw_only=True):
    """An erasure that was asked for, and how far it is."""

    id: str
    contact_id: str
    requested_at: datetime
    """What happened until then is erased, and does not come back."""
    finished_at: datetime | None
    """None while events and messages are still looked for."""
    events: int
    """Stored events that were deleted so far."""
    messages: int
    """Messages and dead letters that were taken off the streams so far."""


class ContactErased(Message, frozen=True, kw_only=True):
    """A person was erased: every service that keeps something about them erases it, too."""

    id: str
    """Of the erasure; the same on every repetition."""
    contact_id: str
    user_ids: list[str]
    """What the person was known by, the ids of contacts included; at most 200 of them."""
    erased_at: datetime
    """Events from before belong to the erased person, later ones to a new one."""


CONTACT_ERASED = Channel(
    subject=f"{subjects.CONTACTS}.*.erased",
    parameter="contactId",
    stream=StreamName.EVENTS,
    message=ContactErased,
    publishers=(User.INGEST,),
    subscribers=(User.SUBSCRIBER, User.APP, User.ANALYTICS),
    summary="A person was erased.",
)
INGEST_ERASE = Endpoint(
    service=User.INGEST,
    verb="erase-contact",
    request=EraseContact,
    reply=Erasure,
    callers=(User.GATEWAY,),
    summary="Erase a person, here and on every stream.",
    deadline=10.0,
    changes=True,
    resource="contact_id",
)
INGEST_CONTACTS = Endpoint(
    service=User.INGEST,
    verb="contacts",
    request=FindContacts,
    reply=ContactList,
    callers=(User.GATEWAY,),
    summary="Contacts that a user id, an id or an email address leads to, with their merges.",
)
INGEST_SPLIT = Endpoint(
    service=User.INGEST,
    verb="split-contacts",
    request=SplitContacts,
    reply=ContactList,
    callers=(User.GATEWAY,),
    summary="Undo a merge of two contacts, and keep them apart.",
    changes=True,
    resource="merge_id",
    # A person's events are moved before; see `services.ingest.contacts.moving`.
    deadline=30.0,
)
INGEST_CONTACT = Endpoint(
    service=User.INGEST,
    verb="contact",
    request=ContactRef,
    reply=Contact,
    callers=(User.ANALYTICS,),
    summary="What is known about a contact.",
)
INGEST_FILL_TIMEZONE = Endpoint(
    service=User.INGEST,
    verb="fill-timezone",
    request=FillTimezone,
    reply=Empty,
    callers=(User.ANALYTICS,),
    summary="Give a contact that has no time zone one.",
    changes=True,
    # Without a resource: no erasure takes a user id out of the audit trail.
)
