"""Decodes engagement: what services report that they did with people (source `hogsend`)."""

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
"""Source (`ce-source`) of engagement that ingest itself publishes after it has stored the event."""

UNRECORDED = frozenset({"webhook.test", "impact.digest"})
"""Types that are about no person. Ingest does not store them; destinations may use them."""

_CONTACT = "contact."
FULL_CONTACT = frozenset({"contact.created", "contact.updated"})
"""Types whose data is a contact, with its id, email and properties."""


def decode(
    subject: str, body: bytes, headers: Mapping[str, str], sequence: int, queued_at: datetime
) -> IncomingEvent | None:
    """Decode engagement; returns None if there is nothing to store.

    Raises:
        Unprocessable: `malformed`, `unknown_type`, or `no_identity` without an id and an address.
    """
    try:
        happened = read_engagement(subject, headers, json_without_nul(body), sequence, queued_at)
    except MalformedEngagement as error:
        raise Unprocessable("malformed", str(error)) from error
    # Engagement that ingest published is stored already. It may name its person by another id than
    # the stored event, and would be stored as a second event.
    if happened.type in UNRECORDED or headers.get(CE_SOURCE) == ce_source(RECORDER):
        return None
    if happened.type not in CATALOG:
        raise Unprocessable("unknown_type", f"there is no engagement type {happened.type!r}")
    user_id, email = person_of(happened.type, happened.data)
    if not user_id and is_blank(email):
        fields = ", ".join((*IDENTITIES, *ADDRESSES))
        raise Unprocessable("no_identity", f"it has none of {fields}")
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


def person_of(type: str, data: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the user id and the address of the person whom engagement is about.

    The address of a mail's recipient is left out if the data has a user id: the mail may have been
    sent to another address than the person's own.
    """
    # A contact without another id is identified by its own.
    names = (*IDENTITIES, "id") if type in FULL_CONTACT else IDENTITIES
    ids = [id for name in names if (id := _text(data.get(name))) is not None]
    email = next(filter(None, (_text(data.get(name)) for name in ADDRESSES)), None)
    # An id that identifies no person is skipped, as at destinations (correction C5).
    user_id = first_user_id(ids)
    if user_id is None:
        return next(iter(ids), ""), email
    return user_id, email if type.startswith(_CONTACT) else None


def _person_properties(happened: Engagement) -> Properties:
    properties = happened.data.get("properties")
    if happened.type in FULL_CONTACT and isinstance(properties, dict):
        return properties
    return {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and not is_blank(value) else None
