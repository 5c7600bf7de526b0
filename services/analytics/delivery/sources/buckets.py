"""The bucket mirror: writes bucket membership to a person property (D-21)."""

from __future__ import annotations

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from services.analytics.delivery import mapping
from services.analytics.delivery.sources.source import Source, decode_engagement
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.project_key import Project, ProjectKey


class BucketsSource(Source):
    """Bucket events with `syncToPostHog`. They need a project key, but no destination."""

    name = "buckets"
    subscription = Subscription(
        stream=StreamName.ENGAGEMENT, subject=subjects.engagement("bucket.*"), durable="buckets"
    )

    def __init__(self, project_key: ProjectKey) -> None:
        """Send to the project of `project_key`."""
        self._project_key = project_key

    def read(self, message: ReadableMessage) -> Captured | None:
        """Map a bucket event."""
        engagement = decode_engagement(message)
        return mapping.bucket(engagement) if engagement is not None else None

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project_for_events()
