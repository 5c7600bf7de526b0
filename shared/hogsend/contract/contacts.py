"""Contacts: the people that Hogsend knows, their identities and merges, and their erasure."""

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
    """Identifies a contact by any of its user ids."""

    user_id: str


class Contact(Message, frozen=True, kw_only=True):
    """What is stored about one person. All fields are empty if no contact has that user id."""

    contact_key: str | None = None
    email: str | None = None
    timezone: str | None = None
    """IANA time zone from the contact's own column, not from its properties."""
    properties: Properties = {}


class FillTimezone(Message, frozen=True, kw_only=True):
    """Set the time zone of a contact that has none."""

    user_id: str
    timezone: str


class FindContacts(Message, frozen=True, kw_only=True):
    """Find contacts by a user id, a contact's id, or an email address."""

    key: Annotated[str, msgspec.Meta(min_length=1)]


class SplitContacts(Message, frozen=True, kw_only=True):
    """Undo a merge of two contacts."""

    merge_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ContactKey(Message, frozen=True, kw_only=True):
    """A key of a contact: a text by which it is found."""

    kind: Literal["external", "email", "row"]
    """`external`: a user id. `email`: an email address. `row`: the id of a contact that was merged
    into this one."""
    value: str
    """The key, cut to 200 characters."""


class ContactMerge(Message, frozen=True, kw_only=True):
    """A merge of one contact into another."""

    id: int
    """Id of the merge, with which it can be undone."""
    at: datetime
    """When the contacts were merged."""
    contact_id: str
    """Id of the contact that was merged into the other."""
    keys: list[ContactKey]
    """Keys of the merged contact, at most 20 of them."""
    split_at: datetime | None = None
    """When the merge was undone; None if it was not."""


class ContactRecord(Message, frozen=True, kw_only=True):
    """A stored contact."""

    id: str
    contact_key: str
    """The key that events carry: the contact's first user id, or its id if it has none."""
    external_id: str | None
    """The contact's first user id."""
    anonymous_id: None = None
    """Always null: PostHog's anonymous ids are user ids here."""
    email: str | None
    """In lower case; None if it is unknown."""
    timezone: str | None
    """IANA name such as `Europe/Berlin`; None if it is unknown."""
    properties: Properties
    """Latest properties of the person."""
    first_seen_at: datetime
    """When the person's first event happened."""
    last_seen_at: datetime
    """When the person's latest event happened."""
    created_at: datetime
    """When the event that created the contact was received."""
    updated_at: datetime
    """When the stored contact was last written."""


class Origin(Message, frozen=True, kw_only=True):
    """The event that a value of a contact comes from."""

    at: datetime
    """When the event happened, or was received if that was earlier. A later event wins."""
    event_id: str
    """Id of the event, cut to 200 characters."""


class ContactDetails(ContactRecord, frozen=True, kw_only=True):
    """A contact with its keys, merges and the origin of its values, for an operator."""

    keys: list[ContactKey]
    """Keys of the contact, at most 200 of them."""
    key_count: int
    """Number of all its keys."""
    merges: list[ContactMerge]
    """Merges into this contact, newest first, at most 100, undone merges included."""
    origins: dict[str, Origin] = {}
    """The origin of each property, by name."""
    email_origin: Origin | None = None
    """The origin of the email address."""


class ContactList(Message, frozen=True, kw_only=True):
    """Contacts with their keys and merges."""

    contacts: list[ContactDetails]


class EraseContact(Message, frozen=True, kw_only=True):
    """Erase a person.

    `contact_id` is the id of the contact, or of one that was merged into it.
    """

    contact_id: UUID


class ErasurePreview(Message, frozen=True, kw_only=True):
    """What an erasure would delete at present."""

    contact_id: str
    keys: int
    """Number of the contact's keys."""
    merges: int
    """Number of merges."""
    events: int
    """Number of stored events."""
    messages: dict[str, int]
    """Number of messages by stream; streams without any are omitted."""


class Erasure(Message, frozen=True, kw_only=True):
    """An erasure and its progress."""

    id: str
    """Id of the erasure."""
    contact_id: str
    """Id of the erased contact."""
    requested_at: datetime
    """Everything that happened before is erased, and is not stored again if it is delivered
    later."""
    finished_at: datetime | None
    """None while events and messages are still searched for."""
    events: int
    """Number of stored events deleted so far."""
    messages: int
    """Number of messages and dead letters deleted from the streams so far."""


class ContactErased(Message, frozen=True, kw_only=True):
    """A person was erased. Services that store data about the person must erase it as well."""

    id: str
    """Id of the erasure; the same on every repetition."""
    contact_id: str
    """Id of the contact that was erased."""
    user_ids: list[str]
    """User ids and contact ids of the person, at most 200 of them."""
    erased_at: datetime
    """Events before this time belong to the erased person, later ones to a new person."""


CONTACT_ERASED = Channel(
    subject=f"{subjects.CONTACTS}.*.erased",
    parameter="contactId",
    stream=StreamName.EVENTS,
    message=ContactErased,
    publishers=(User.INGEST,),
    subscribers=(User.SUBSCRIBER, User.APP, User.ANALYTICS),
    summary="A person was erased: erase what your service stores about them.",
)
INGEST_ERASE = Endpoint(
    service=User.INGEST,
    verb="erase-contact",
    request=EraseContact,
    reply=Erasure,
    callers=(User.GATEWAY,),
    summary="Erase a person from the database and from every stream.",
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
    summary="Find contacts by user id, contact id or email address, with their merges.",
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
    # The events of the person are moved first; see `services.ingest.contacts.moving`.
    deadline=30.0,
)
INGEST_CONTACT = Endpoint(
    service=User.INGEST,
    verb="contact",
    request=ContactRef,
    reply=Contact,
    callers=(User.ANALYTICS,),
    summary="What is stored about a contact.",
)
INGEST_FILL_TIMEZONE = Endpoint(
    service=User.INGEST,
    verb="fill-timezone",
    request=FillTimezone,
    reply=Empty,
    callers=(User.ANALYTICS,),
    summary="Set the time zone of a contact that has none.",
    changes=True,
    # No resource, because an erasure does not remove user ids from the audit trail.
)
