"""Where PostHog's private API is: what the operator set, else what `connect` stored."""

from __future__ import annotations

from hogsend.posthog.hosts import US_INGESTION_HOST, private_host
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.stored_project import StoredProject


class PrivateHost:
    """Knows the host."""

    def __init__(self, settings: PostHogSettings, stored: StoredProject) -> None:
        """Look at the environment first, then at the stored project."""
        self._configured = settings.private_host
        self._stored = stored

    async def find(self) -> str:
        """Give the host, without a trailing slash.

        The host an OAuth grant came from precedes PostHog Cloud's, which must not see its token.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        if self._configured is not None:
            return self._configured
        stored = await self._stored.get()
        found = stored.private_host or stored.grant_origin or private_host(US_INGESTION_HOST)
        return found.rstrip("/")
