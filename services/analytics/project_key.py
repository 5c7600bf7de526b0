"""The project that events are captured into: the operator's, else the one `connect` stored (D-15).

Its key is public by design and can never read. Without a key, capturing has no effect and is no
error.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hogsend.contract.errors import Unavailable
from hogsend.posthog.hosts import US_INGESTION_HOST, ingestion_host
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.stored_project import StoredProject

PROVISIONING_SECONDS = 900.0
"""How long events wait for a project after PostHog was connected: time to choose one,
or to mend what a first attempt to provision lacked."""


class Project(msgspec.Struct, frozen=True):
    """A project and where its events go."""

    key: str
    host: str
    """URL without a trailing slash."""

    def __repr__(self) -> str:
        """Name the host, never the key."""
        return f"Project({self.host!r})"


class ProjectKey:
    """Knows the project."""

    def __init__(self, settings: PostHogSettings, stored: StoredProject) -> None:
        """Look at the environment first, then at the stored project."""
        self._host = ingestion_host(settings.posthog_host) if settings.posthog_host else None
        self._stored = stored
        key = settings.posthog_api_key
        self._configured = Project(key.get_secret_value(), self.host) if key else None

    @property
    def from_environment(self) -> bool:
        """Whether `POSTHOG_API_KEY` is set."""
        return self._configured is not None

    @property
    def host(self) -> str:
        """Where events go unless the stored project says otherwise."""
        return self._host or US_INGESTION_HOST

    async def project(self) -> Project | None:
        """Give the project; None when there certainly is none.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        if self._configured is not None:
            return self._configured
        stored = await self._stored.get()
        if not stored.project_api_key:
            return None
        host = self._host or ingestion_host(stored.private_host or "") or US_INGESTION_HOST
        return Project(stored.project_api_key, host)

    async def project_for_events(self) -> Project | None:
        """Give the project for events that can wait for it, as `project` does.

        Raises:
            HogsendError: as `project`; also while it is about to be stored: PostHog was connected a
                moment ago, and provisioning follows.
        """
        found = await self.project()
        if found is None and await self.is_awaited():
            raise Unavailable("PostHog was connected, and its project is not stored yet")
        return found

    async def is_awaited(self) -> bool:
        """Whether events wait where `project` gives None: PostHog was connected a moment ago.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        connected_at = (await self._stored.get()).connected_at
        if connected_at is None:
            return False
        # By PostgreSQL's clock, which may be ahead, though not so far that events never go on.
        return abs((datetime.now(UTC) - connected_at).total_seconds()) < PROVISIONING_SECONDS
