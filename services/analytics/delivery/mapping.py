"""Maps messages to PostHog's capture events (contract 4.4, 4.5, 6.3 and 11.1)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from hogsend.contract.base import Properties
from hogsend.contract.engagement import Engagement
from hogsend.contract.events import Event
from hogsend.contract.identity import contact_email, contact_user_id, first_user_id
from hogsend.contract.moments import utc_in_range
from hogsend.contract.persons import MAX_DISTINCT_ID, Addressed, Alias, SetPerson
from hogsend.contract.persons import Capture as CaptureMessage
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from services.analytics.destinations.model import DestinationConfig

LIBRARY = "hogsend"
DEFAULT_UNSUBSCRIBED = "hogsend_unsubscribed"
BUCKET_PREFIX = "hogsend_bucket_"

_NAMESPACE = UUID("6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11")
_IDS = ("userId", "anonymousId")
_ADDRESSES = ("to", "userEmail")
_EMAIL_FIELDS: tuple[str, ...] = ("emailSendId", "templateKey", "linkId")
_UUID = re.compile(r"(?:msg_)?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})", re.IGNORECASE)


class NoIdentity(Unprocessable):
    """An event without an id that identifies one person; PostHog accepts no event without one."""

    def __init__(self, detail: str) -> None:
        super().__init__("no_identity", detail)


def engagement(report: Engagement, config: DestinationConfig) -> Captured | None:
    """Map engagement for a destination; None when there is nothing to capture.

    Raises:
        NoIdentity: the event names no person, or one whose id PostHog would truncate.
    """
    type, data = report.type, report.data
    if type == "impact.digest":
        return None
    if type.startswith("contact.") or type == "journey.heldout":
        return _person_change(report, config) if config.syncs_persons else None
    if type == "email.action":
        name = data.get("event")
        if not isinstance(name, str) or not name:
            raise NoIdentity("email.action without the event it stands for")
        own = {key: data[key] for key in _EMAIL_FIELDS if key in data}
        properties = {**_as_properties(data.get("properties")), **own}
        return _captured(report, name, _identity(data), properties)
    name = config.event_names.get(type, type)
    return _captured(report, name, _identity(data), data)


def bucket(report: Engagement) -> Captured | None:
    """Map bucket membership to a person property, for events with `syncToPostHog` (D-21).

    Raises:
        NoIdentity: PostHog would truncate the person's id.
    """
    data = report.data
    bucket_id = _non_blank(data.get("bucketId"))
    user = first_user_id([_non_blank(data.get("userId"))])
    if data.get("syncToPostHog") is not True or bucket_id is None or user is None:
        return None
    name = f"{BUCKET_PREFIX}{bucket_id}"
    if report.type == "bucket.entered":
        change: Properties = {"$set": {name: True}}
    elif report.type == "bucket.left":
        change = {"$unset": [name]}
    else:
        return None
    # A destination captures the same engagement under another uuid.
    return _build(event_uuid(f"bucket:{report.id}"), "$set", user, report.timestamp, change)


def set_person(request: SetPerson, uuid: UUID, queued_at: datetime) -> Captured | None:
    """Map a person write (contract 4.4); None when it changes no person.

    A placeholder id such as `null` names no person (correction C5). PostHog only refuses to merge
    such an id: a write to it would change the one person that all its users share in PostHog.
    """
    if contact_user_id(request.distinct_id) is None:
        return None
    change: Properties = {}
    if request.set:
        change["$set"] = request.set
    if request.set_once:
        change["$set_once"] = request.set_once
    if request.unset:
        change["$unset"] = request.unset
    if not change:
        return None
    occurred_at = _occurred_at(request, queued_at)
    return _build(uuid, "$set", request.distinct_id, occurred_at, change)


def capture(request: CaptureMessage, uuid: UUID, queued_at: datetime) -> Captured:
    """Map an event that a service captures."""
    properties = request.properties
    if request.groups:
        properties = {**properties, "$groups": request.groups}
    occurred_at = _occurred_at(request, queued_at)
    return _build(uuid, request.event, request.distinct_id, occurred_at, properties)


def alias(request: Alias, uuid: UUID, queued_at: datetime) -> Captured | None:
    """Map an identity merge (contract 4.5); None when there is nothing to merge.

    A placeholder id such as `null` names no person and is never merged (correction C5). PostHog
    refuses to merge some of these ids itself; a merge of the others would combine all users that
    were sent under them into one person.
    """
    user_id, alias_id = contact_user_id(request.distinct_id), contact_user_id(request.alias)
    if user_id is None or alias_id is None or user_id == alias_id:
        return None
    occurred_at = _occurred_at(request, queued_at)
    properties = {"alias": request.alias}
    return _build(uuid, "$create_alias", request.distinct_id, occurred_at, properties)


def mirrored(event: Event) -> Captured:
    """Map a mirrored event, under the contact's canonical key (contract 11.1).

    Raises:
        NoIdentity: PostHog would truncate that key.
    """
    properties = event.properties
    currency = properties.get("currency")
    if isinstance(currency, str):
        properties = {**properties, "currency": currency.upper()}
    uuid = event_uuid(event.id)
    return _build(uuid, event.event, event.contact_key, event.occurred_at, properties)


def event_uuid(id: str) -> UUID:
    """Return the event's uuid in PostHog: the uuid in its id, else one derived from its id."""
    match = _UUID.fullmatch(id)
    return UUID(match[1]) if match else uuid5(_NAMESPACE, id)


def _occurred_at(request: Addressed, queued_at: datetime) -> datetime:
    return (utc_in_range(request.timestamp) if request.timestamp else None) or queued_at


def _person_change(report: Engagement, config: DestinationConfig) -> Captured | None:
    data = report.data
    match report.type:
        case "contact.created" | "contact.updated":
            properties = _as_properties(data.get("properties"))
            user = first_user_id([_non_blank(data.get("externalId")), _non_blank(data.get("id"))])
            change = {"$set": properties} if properties else None
        case "contact.unsubscribed":
            external_id = _non_blank(data.get("externalId"))
            user = first_user_id([external_id]) if data.get("scope") == "all" else None
            name = config.unsubscribed_property_key or DEFAULT_UNSUBSCRIBED
            change = {"$set": {name: True}} if user else None
        case "contact.control_group":
            user = first_user_id([_non_blank(data.get("userId"))])
            change = {"$set": {"hogsend_control_group": True}} if user else None
        case "journey.heldout":
            user = first_user_id([_non_blank(data.get("userId"))])
            journey = _non_blank(data.get("journeyId"))
            change = {"$set": {f"hogsend_holdout_{journey}": True}} if user and journey else None
        case _:
            return None
    if change is None:
        return None
    if user is None:
        raise NoIdentity("neither externalId nor id names a person")
    return _captured(report, "$set", user, change)


def _captured(report: Engagement, event: str, distinct_id: str, properties: Properties) -> Captured:
    return _build(event_uuid(report.id), event, distinct_id, report.timestamp, properties)


def _build(
    uuid: UUID, event: str, distinct_id: str, timestamp: datetime, properties: Properties
) -> Captured:
    if len(distinct_id) > MAX_DISTINCT_ID:
        raise NoIdentity(
            f"an id of {len(distinct_id)} characters; PostHog truncates ids to {MAX_DISTINCT_ID}, "
            "and could take the event for another person's"
        )
    return Captured(
        uuid=uuid,
        event=event,
        distinct_id=distinct_id,
        timestamp=timestamp,
        # Without `$geoip_disable` PostHog would locate every person at this server's IP address.
        properties={**properties, "$lib": LIBRARY, "$geoip_disable": True},
    )


def _identity(data: Properties) -> str:
    ids = [text for name in _IDS if (text := _non_blank(data.get(name))) is not None]
    if (user_id := first_user_id(ids)) is not None:
        return user_id
    addresses = [text for name in _ADDRESSES if (text := _non_blank(data.get(name))) is not None]
    if addresses:
        # Services and mail providers differ in how they write an address. Without the normal form,
        # PostHog would create a person for each spelling (correction C6).
        return contact_email(addresses[0]) or addresses[0]
    if ids:
        return ids[0]
    raise NoIdentity(f"none of {', '.join((*_IDS, *_ADDRESSES))}")


def _as_properties(value: Any) -> Properties:
    return value if isinstance(value, dict) else {}


def _non_blank(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
