"""Contacts: what is known about people, and which of their identities were merged."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract.base import Empty, Message, Properties
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User


class ContactRef(Message, frozen=True, kw_only=True):
    """Which contact is meant: by any user id it is known by."""

    user_id: str


class Contact(Message, frozen=True, kw_only=True):
    """What is known about one person; everything empty when nobody is known by that key."""

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


class ContactDetails(Message, frozen=True, kw_only=True):
    """A contact as an operator sees it."""

    id: str
    contact_key: str
    """What other services know it by: its first user id, else its id."""
    email: str | None
    timezone: str | None
    properties: Properties
    first_seen_at: datetime
    last_seen_at: datetime
    keys: list[ContactKey]
    """At most 200 of them."""
    key_count: int
    merges: list[ContactMerge]
    """The latest 100 that it comes from, the latest first, those that were undone included."""


class ContactList(Message, frozen=True, kw_only=True):
    """Contacts with what they are known by."""

    contacts: list[ContactDetails]


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
    resource="user_id",
)
