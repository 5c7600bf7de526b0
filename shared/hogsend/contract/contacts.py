"""Contacts, and events that services and clients report themselves."""

from __future__ import annotations

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
)
