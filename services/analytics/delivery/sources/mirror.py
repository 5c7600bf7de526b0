"""The event mirror: captures events that were reported to Hogsend in PostHog (contract 11.1)."""

from __future__ import annotations

from collections.abc import Collection

from hogsend.contract import subjects, webhooks
from hogsend.contract.consumers import MIRROR
from hogsend.contract.engagement import CATALOG
from hogsend.contract.events import Event
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from services.analytics.delivery import mapping
from services.analytics.delivery.sources.source import Source, decode
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.project_key import Project, ProjectKey


class MirrorSource(Source):
    """Normalized events that are published while the mirror is on."""

    name = "mirror"
    subscription = Subscription(
        stream=StreamName.EVENTS, subject=f"{subjects.EVENTS}.*", durable=MIRROR, new_only=True
    )

    def __init__(
        self, project_key: ProjectKey, allow: Collection[str], deny: Collection[str]
    ) -> None:
        """Mirror the events named in `allow`, or all if it is empty, except those in `deny`."""
        self._project_key = project_key
        self._allow = frozenset(allow)
        self._deny = frozenset(deny)

    def read(self, message: ReadableMessage) -> Captured | None:
        """Map an event.

        None for events without a person, events from PostHog, and engagement, which destinations
        send.
        """
        event = decode(message, Event)
        if not event.contact_key:
            return None
        if event.source == webhooks.SOURCE or event.event in CATALOG or event.event in self._deny:
            return None
        if self._allow and event.event not in self._allow:
            return None
        return mapping.mirrored(event)

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project_for_events()
