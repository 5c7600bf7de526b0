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
    """The event names no person that PostHog can tell from others, and it takes none without."""

    def __init__(self, detail: str) -> None:
        super().__init__("no_identity", detail)


def engagement(happened: Engagement, config: DestinationConfig) -> Captured | None:
    """Map engagement for a destination; None when there is nothing to capture.

    Raises:
        NoIdentity: the event names no person, or one whose id PostHog would cut off.
    """
    type, data = happened.type, happened.data
    if type == "impact.digest":
        return None
    if type.startswith("contact.") or type == "journey.heldout":
        return _person_change(happened, config) if config.syncs_persons else None
    if type == "email.action":
        name = data.get("event")
        if not isinstance(name, str) or not name:
            raise NoIdentity("email.action without the event it stands for")
        own = {key: data[key] for key in _EMAIL_FIELDS if key in data}
        return _captured(happened, name, _identity(data), {**_bag(data.get("properties")), **own})
    name = config.event_names.get(type, type)
    return _captured(happened, name, _identity(data), data)


def bucket(happened: Engagement) -> Captured | None:
    """Map bucket membership to a person property, for a bucket that asks to be synced (D-21).

    Raises:
        NoIdentity: PostHog would cut the person's id off.
    """
    data = happened.data
    bucket_id, user = _text(data.get("bucketId")), first_user_id([_text(data.get("userId"))])
    if data.get("syncToPostHog") is not True or bucket_id is None or user is None:
        return None
    name = f"{BUCKET_PREFIX}{bucket_id}"
    if happened.type == "bucket.entered":
        change: Properties = {"$set": {name: True}}
    elif happened.type == "bucket.left":
        change = {"$unset": [name]}
    else:
        return None
    # Not the uuid that a destination captures the same engagement under.
    return _make(event_uuid(f"bucket:{happened.id}"), "$set", user, happened.timestamp, change)


def set_person(wanted: SetPerson, uuid: UUID, queued_at: datetime) -> Captured | None:
    """Map a person write (contract 4.4); None when it changes no person.

    PostHog refuses only to merge an id that names no person (correction C5). It would write to the
    person of everybody who was sent under that id.
    """
    if contact_user_id(wanted.distinct_id) is None:
        return None
    change: Properties = {}
    if wanted.set:
        change["$set"] = wanted.set
    if wanted.set_once:
        change["$set_once"] = wanted.set_once
    if wanted.unset:
        change["$unset"] = wanted.unset
    if not change:
        return None
    moment = _happened_at(wanted, queued_at)
    return _make(uuid, "$set", wanted.distinct_id, moment, change)


def capture(wanted: CaptureMessage, uuid: UUID, queued_at: datetime) -> Captured:
    """Map an event of a service."""
    properties = wanted.properties
    if wanted.groups:
        properties = {**properties, "$groups": wanted.groups}
    moment = _happened_at(wanted, queued_at)
    return _make(uuid, wanted.event, wanted.distinct_id, moment, properties)


def alias(wanted: Alias, uuid: UUID, queued_at: datetime) -> Captured | None:
    """Map an identity merge (contract 4.5); None when there is nothing to merge.

    An id that names no person never merges (correction C5): PostHog refuses some of those itself,
    and of the others it would make the person of everybody who was sent under them.
    """
    one, other = contact_user_id(wanted.distinct_id), contact_user_id(wanted.alias)
    if one is None or other is None or one == other:
        return None
    moment = _happened_at(wanted, queued_at)
    properties = {"alias": wanted.alias}
    return _make(uuid, "$create_alias", wanted.distinct_id, moment, properties)


def mirrored(event: Event) -> Captured:
    """Map a mirrored event, under the contact's canonical key (contract 11.1).

    Raises:
        NoIdentity: PostHog would cut that key off.
    """
    properties = event.properties
    currency = properties.get("currency")
    if isinstance(currency, str):
        properties = {**properties, "currency": currency.upper()}
    uuid = event_uuid(event.id)
    return _make(uuid, event.event, event.contact_key, event.occurred_at, properties)


def event_uuid(id: str) -> UUID:
    """The event's uuid in PostHog: the one in its id, else a uuid derived from its id."""
    match = _UUID.fullmatch(id)
    return UUID(match[1]) if match else uuid5(_NAMESPACE, id)


def _happened_at(wanted: Addressed, queued_at: datetime) -> datetime:
    return (utc_in_range(wanted.timestamp) if wanted.timestamp else None) or queued_at


def _person_change(happened: Engagement, config: DestinationConfig) -> Captured | None:
    data = happened.data
    match happened.type:
        case "contact.created" | "contact.updated":
            properties = _bag(data.get("properties"))
            user = first_user_id([_text(data.get("externalId")), _text(data.get("id"))])
            change = {"$set": properties} if properties else None
        case "contact.unsubscribed":
            external = _text(data.get("externalId"))
            user = first_user_id([external]) if data.get("scope") == "all" else None
            name = config.unsubscribed_property_key or DEFAULT_UNSUBSCRIBED
            change = {"$set": {name: True}} if user else None
        case "contact.control_group":
            user = first_user_id([_text(data.get("userId"))])
            change = {"$set": {"hogsend_control_group": True}} if user else None
        case "journey.heldout":
            user = first_user_id([_text(data.get("userId"))])
            journey = _text(data.get("journeyId"))
            change = {"$set": {f"hogsend_holdout_{journey}": True}} if user and journey else None
        case _:
            return None
    if change is None:
        return None
    if user is None:
        raise NoIdentity("neither externalId nor id names a person")
    return _captured(happened, "$set", user, change)


def _captured(
    happened: Engagement, event: str, distinct_id: str, properties: Properties
) -> Captured:
    return _make(event_uuid(happened.id), event, distinct_id, happened.timestamp, properties)


def _make(
    uuid: UUID, event: str, distinct_id: str, timestamp: datetime, properties: Properties
) -> Captured:
    if len(distinct_id) > MAX_DISTINCT_ID:
        raise NoIdentity(
            f"an id of {len(distinct_id)} characters; PostHog cuts off what exceeds "
            f"{MAX_DISTINCT_ID}, and would take it for another person's"
        )
    return Captured(
        uuid=uuid,
        event=event,
        distinct_id=distinct_id,
        timestamp=timestamp,
        # Without the switch PostHog would locate every person at this server's address.
        properties={**properties, "$lib": LIBRARY, "$geoip_disable": True},
    )


def _identity(data: Properties) -> str:
    ids = [text for name in _IDS if (text := _text(data.get(name))) is not None]
    if (known := first_user_id(ids)) is not None:
        return known
    addresses = [text for name in _ADDRESSES if (text := _text(data.get(name))) is not None]
    if addresses:
        # Services and mail providers write one address differently, and PostHog would make a
        # person of each (correction C6).
        return contact_email(addresses[0]) or addresses[0]
    if ids:
        return ids[0]
    raise NoIdentity(f"none of {', '.join((*_IDS, *_ADDRESSES))}")


def _bag(value: Any) -> Properties:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
