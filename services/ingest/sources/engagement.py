"""Decodes engagement: what services did with people, stored as Hogsend's own events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hogsend.contract.base import Properties
from hogsend.contract.engagement import (
    ADDRESSES,
    CATALOG,
    IDENTITIES,
    Engagement,
    MalformedEngagement,
    read_engagement,
)
from hogsend.contract.headers import (
    CE_SOURCE,
    CORRELATION_ID,
    TRACEPARENT,
    ce_source,
    propagated,
)
from hogsend.contract.identity import contact_email, first_user_id, is_blank
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.nul import json_without_nul
from services.ingest.incoming_event import EventRef, IncomingEvent, reported_id

SOURCE = "hogsend"

RECORDER = "ingest"
"""Source (`ce-source`) of engagement that ingest publishes after it has stored the event."""

UNRECORDED = frozenset({"webhook.test", "impact.digest"})
"""Types that are about no person: they are for destinations only."""

_CONTACT = "contact."
FULL_CONTACT = frozenset({"contact.created", "contact.updated"})
"""Types whose data is the contact itself, with its id, email and properties."""


def decode(
    subject: str, body: bytes, headers: Mapping[str, str], sequence: int, queued_at: datetime
) -> IncomingEvent | None:
    """Decode engagement; None when there is nothing to store.

    Raises:
        Unprocessable: `malformed`, `unknown_type`, or `no_identity` without an id and an address.
    """
    try:
        happened = read_engagement(subject, headers, json_without_nul(body), sequence, queued_at)
    except MalformedEngagement as error:
        raise Unprocessable("malformed", str(error)) from error
    # What is stored already may name its person otherwise here, as another event would.
    if happened.type in UNRECORDED or headers.get(CE_SOURCE) == ce_source(RECORDER):
        return None
    if happened.type not in CATALOG:
        raise Unprocessable("unknown_type", f"there is no engagement type {happened.type!r}")
    user_id, email = who(happened.type, happened.data)
    if not user_id and is_blank(email):
        known = ", ".join((*IDENTITIES, *ADDRESSES))
        raise Unprocessable("no_identity", f"it has none of {known}")
    address = contact_email(email)
    return IncomingEvent(
        ref=EventRef(SOURCE, reported_id(happened.id, user_id, address)),
        name=happened.type,
        user_id=user_id,
        email=address,
        occurred_at=happened.timestamp,
        received_at=queued_at,
        queued_at=queued_at,
        properties=happened.data,
        person_properties=_person_properties(happened),
        correlation_id=propagated(headers, CORRELATION_ID),
        traceparent=propagated(headers, TRACEPARENT),
    )


def who(type: str, data: Mapping[str, Any]) -> tuple[str, str | None]:
    """The user id and the address that engagement is about; a mail may go to another one."""
    # A contact without another id is known by its own.
    names = (*IDENTITIES, "id") if type in FULL_CONTACT else IDENTITIES
    ids = [id for name in names if (id := _text(data.get(name))) is not None]
    email = next(filter(None, (_text(data.get(name)) for name in ADDRESSES)), None)
    # An id of no person gives way, as it does at destinations (correction C5).
    user_id = first_user_id(ids)
    if user_id is None:
        return next(iter(ids), ""), email
    # The address that a mail was sent to need not be the person's own.
    return user_id, email if type.startswith(_CONTACT) else None


def _person_properties(happened: Engagement) -> Properties:
    properties = happened.data.get("properties")
    if happened.type in FULL_CONTACT and isinstance(properties, dict):
        return properties
    return {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and not is_blank(value) else None
