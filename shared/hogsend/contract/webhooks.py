"""The webhook that PostHog's destination sends (contract 5.3)."""

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
"""Source of these webhooks, and of the events that are made from them."""

WEBHOOK_PATH = "/v1/webhooks/posthog"
"""Path of the gateway's route for these webhooks."""

SECRET_HEADER = "x-posthog-webhook-secret"  # noqa: S105 - the header's name
"""The header with the shared secret of PostHog's deliveries (contract 5.1)."""


class PostHogEvent(msgspec.Struct, frozen=True):
    """`event` of the body. Its keys are PostHog's, hence not in camelCase."""

    event: str
    distinct_id: str
    uuid: str | None = None
    timestamp: str | None = None
    url: str | None = None
    properties: Properties = {}


class PostHogWebhook(msgspec.Struct, frozen=True):
    """The whole body. `person` may be anything, so that a malformed one does not lose the event."""

    event: PostHogEvent
    person: Any = None

    @property
    def person_properties(self) -> Properties:
        """The person's properties; empty if they are missing or not an object."""
        properties = self.person.get("properties") if isinstance(self.person, dict) else None
        return properties if isinstance(properties, dict) else {}

    @property
    def email(self) -> str | None:
        """The person's email in normal form; None if it is missing or no address."""
        return contact_email(self.person_properties.get("email"))

    @property
    def has_identity(self) -> bool:
        """Whether the distinct id or the email is not blank; a placeholder is not blank."""
        return not (
            is_blank(self.event.distinct_id) and is_blank(self.person_properties.get("email"))
        )

    @property
    def event_id(self) -> str | None:
        """Id that all deliveries of this event share: PostHog's uuid, or None without one.

        A uuid that a NATS header cannot carry is replaced by its digest. Without a uuid a repeated
        delivery cannot be distinguished from an event that happened twice, so each delivery becomes
        a separate event (correction C3).
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
    # Ingest publishes here when it replays dead letters.
    publishers=(User.GATEWAY, User.INGEST),
    subscribers=(User.INGEST,),
    summary="An accepted webhook with its body unchanged; `*` is the source, such as `posthog`.",
)

WEBHOOK_ACCEPTED_IN_ORDER = Channel(
    subject=subjects.WEBHOOKS_WITH_SLOT,
    parameter="source.slot",
    stream=StreamName.WEBHOOKS,
    message=PostHogWebhook,
    publishers=(User.GATEWAY, User.INGEST),
    subscribers=(User.INGEST,),
    summary="An accepted webhook with INGEST_PARTITIONS above 1: source, and the person's slot.",
)
