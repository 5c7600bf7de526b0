"""The webhook body PostHog's destination sends (contract 5.3)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.headers import is_safe_in_header
from hogsend.contract.identity import contact_email, is_blank
from hogsend.contract.registry import Channel
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

SOURCE = "posthog"
"""Source of these webhooks and of the events that are made of them."""

WEBHOOK_PATH = "/v1/webhooks/posthog"
"""Where the gateway takes them."""

SECRET_HEADER = "x-posthog-webhook-secret"  # noqa: S105 - the header's name
"""The header in which PostHog presents the shared secret (contract 5.1)."""


class PostHogEvent(msgspec.Struct, frozen=True):
    """`event` of the body. Names are PostHog's own, hence no camelCase."""

    event: str
    distinct_id: str
    uuid: str | None = None
    timestamp: str | None = None
    url: str | None = None
    properties: Properties = {}


class PostHogWebhook(msgspec.Struct, frozen=True):
    """The whole body. `person` is read leniently: an odd person never costs the event."""

    event: PostHogEvent
    person: Any = None

    @property
    def person_properties(self) -> Properties:
        """The person's properties, or an empty bag when they are missing or not an object."""
        bag = self.person.get("properties") if isinstance(self.person, dict) else None
        return bag if isinstance(bag, dict) else {}

    @property
    def email(self) -> str | None:
        """The person's email, folded; None when missing, or no address."""
        return contact_email(self.person_properties.get("email"))

    @property
    def has_identity(self) -> bool:
        """Whether it says whose it is, even if by a placeholder that identifies no person."""
        named = (self.event.distinct_id, self.person_properties.get("email"))
        return not all(map(is_blank, named))

    @property
    def event_id(self) -> str | None:
        """Id that every delivery of this event shares: PostHog's uuid, or None without one.

        A uuid that a NATS header cannot carry is replaced by its digest. Without a uuid nothing
        tells a repeated delivery from an event that happened twice, so each delivery is an event
        of its own (correction C3).
        """
        uuid = self.event.uuid
        if not uuid or is_safe_in_header(uuid):
            return uuid or None
        return f"sha256:{hashlib.sha256(uuid.encode()).hexdigest()}"


WEBHOOK_ACCEPTED = Channel(
    subject=f"{subjects.WEBHOOKS}.*",
    parameter="source",
    stream=StreamName.WEBHOOKS,
    message=PostHogWebhook,
    # Ingest replays dead letters, here and on every other subject it may publish to.
    publishers=(User.GATEWAY, User.INGEST),
    subscribers=(User.INGEST,),
    summary="An accepted webhook, body as it came; the last token is the source.",
)

WEBHOOK_ACCEPTED_IN_ORDER = Channel(
    subject=subjects.WEBHOOKS_WITH_SLOT,
    parameter="source.slot",
    stream=StreamName.WEBHOOKS,
    message=PostHogWebhook,
    publishers=(User.GATEWAY, User.INGEST),
    subscribers=(User.INGEST,),
    summary="The same with INGEST_PARTITIONS above 1: source, and the slot of its person.",
)
