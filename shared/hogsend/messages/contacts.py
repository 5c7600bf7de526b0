"""Contacts, and events that services and clients report themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from hogsend.messages.base import Message, Properties


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


class RecordEvent(Message, frozen=True, kw_only=True):
    """An event reported to Hogsend itself; `user_id` or `email` must say whose it is."""

    event: str
    user_id: str = ""
    email: str | None = None
    properties: Properties = {}
    contact_properties: Properties = {}
    idempotency_key: str | None = None
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]


class Recorded(Message, frozen=True, kw_only=True):
    """The event is stored."""

    id: str
    stored: bool
    """False when the idempotency key was seen before."""
    contact_key: str
