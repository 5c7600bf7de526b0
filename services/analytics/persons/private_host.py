"""Host of PostHog's private API: the operator's setting, else the one that `connect` stored."""

from __future__ import annotations

from hogsend.posthog.hosts import US_INGESTION_HOST, private_host
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.stored_project import StoredProject


class PrivateHost:
    """Determines the host of PostHog's private API."""

    def __init__(self, settings: PostHogSettings, stored: StoredProject) -> None:
        """Prefer the host in `settings` to the stored project's."""
        self._configured = settings.private_host
        self._stored = stored

    async def find(self) -> str:
        """Return the URL of the host, without a trailing slash.

        The host that issued an OAuth grant precedes PostHog Cloud, which must not get the token of
        another PostHog.

        Raises:
            HogsendError: the credentials service cannot be reached.
        """
        if self._configured is not None:
            return self._configured
        stored = await self._stored.get()
        host = stored.private_host or stored.grant_origin or private_host(US_INGESTION_HOST)
        return host.rstrip("/")
