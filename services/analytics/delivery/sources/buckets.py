"""The bucket mirror: bucket membership as a person property (D-21)."""

from __future__ import annotations

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from services.analytics.delivery import mapping
from services.analytics.delivery.sources.source import Source, decode_engagement
from services.analytics.delivery.streams import DeliveryMessage, Subscription
from services.analytics.persons.own_writes import OwnWrites
from services.analytics.project_key import Project, ProjectKey


class BucketsSource(Source):
    """Bucket events that ask to be synced; needs a project key but no destination."""

    name = "buckets"
    subscription = Subscription(
        stream=StreamName.ENGAGEMENT, subject=subjects.engagement("bucket.*"), durable="buckets"
    )

    def __init__(self, project_key: ProjectKey, writes: OwnWrites) -> None:
        """Send to the project of `project_key`; reads learn of what is set from `writes`."""
        self._project_key = project_key
        self._writes = writes

    def read(self, message: DeliveryMessage) -> Captured | None:
        """Read a bucket event."""
        engagement = decode_engagement(message)
        captured = mapping.bucket(engagement) if engagement is not None else None
        if captured is not None and self._project_key.is_known:
            self._writes.note(captured)
        return captured

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project()
