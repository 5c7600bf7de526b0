"""The source of one destination: engagement of the types that it subscribed to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hogsend.contract.errors import NotFound
from hogsend.contract.headers import DESTINATION
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from services.analytics.delivery import mapping
from services.analytics.delivery.destination_consumers import destination_subscription
from services.analytics.delivery.sources.source import (
    Skipped,
    Source,
    decode_engagement,
)
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.destinations.model import Destination, is_at
from services.analytics.destinations.store import DestinationStore, Outcome
from services.analytics.project_key import Project, ProjectKey


class DestinationSource(Source):
    """The engagement types a destination subscribed to, and test events for it."""

    name = "destination"
    has_history = True

    def __init__(
        self,
        destination: Destination,
        project_key: ProjectKey,
        store: DestinationStore,
        *,
        default_enabled: bool,
    ) -> None:
        """Send to `destination`; the default destination is used only with `default_enabled`."""
        self.destination = destination
        """The destination as it was stored at the last `refresh`."""
        self._project_key = project_key
        self._store = store
        self._default_enabled = default_enabled

    @property
    def subscription(self) -> Subscription:
        """All engagement, with a separate durable consumer for each destination."""
        return destination_subscription(self.destination.id)

    @property
    def destination_id(self) -> str:
        """Id of the destination."""
        return str(self.destination.id)

    @property
    def dead_letter_headers(self) -> dict[str, str]:
        """A header that makes a replayed dead letter go to this destination only."""
        return {DESTINATION: str(self.destination.id)}

    @property
    def revision(self) -> object:
        """When the destination was last changed: the change may affect how events are mapped."""
        return self.destination.updated_at

    async def refresh(self) -> None:
        """Read the destination from PostgreSQL again; a deleted one is treated as paused."""
        try:
            self.destination = await self._store.get(self.destination.id)
        except NotFound:
            self.destination = msgspec.structs.replace(self.destination, disabled=True)

    def read(self, message: ReadableMessage) -> Captured | None:
        """Map an event that the destination subscribed to, or that is addressed to it."""
        addressee = message.headers.get(DESTINATION)
        if addressee is not None and addressee != str(self.destination.id):
            return None
        engagement = decode_engagement(message)
        if engagement is None:
            return None
        if addressee is None and engagement.type not in self.destination.event_types:
            return None
        captured = mapping.engagement(engagement, self.destination.config)
        if captured is None:
            raise Skipped
        return captured

    async def project(self) -> Project | None:
        """The destination's own key and host; the instance's where either is missing."""
        destination, config = self.destination, self.destination.config
        if destination.disabled or (destination.is_default and not self._default_enabled):
            return None
        project = None
        if not config.api_key:
            project = await self._project_key.project_for_events()
            if project is None and destination.is_default:
                return None
            if project is not None and not is_at(config, project.host):
                # The instance's key must not be sent to another host.
                project = None
        key = config.api_key or (project.key if project else None)
        if not key:
            raise Unprocessable(
                "not_configured", f"the destination has no apiKey ({destination.kind})"
            )
        host = config.host or (project.host if project else None) or self._project_key.host
        return Project(key, host)

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Add outcomes to the destination's history."""
        await self._store.record(self.destination.id, outcomes)
