"""The project that events are captured in: the operator's, else the one `connect` stored (D-15).

Project keys are public by design and give no read access. Without a project key, events are
discarded without an error.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hogsend.contract.errors import Unavailable
from hogsend.posthog.hosts import US_INGESTION_HOST, ingestion_host
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.stored_project import StoredProject

PROVISIONING_SECONDS = 900.0
"""How long events wait for a project after PostHog was connected. In this time the operator can
choose a project, or fix what a first attempt to provision lacked."""


class Project(msgspec.Struct, frozen=True):
    """A project key, and the host that events are sent to."""

    key: str
    host: str
    """URL without a trailing slash."""

    def __repr__(self) -> str:
        """Name the host, never the key."""
        return f"Project({self.host!r})"


class ProjectKey:
    """Determines the project that events are captured in."""

    def __init__(self, settings: PostHogSettings, stored: StoredProject) -> None:
        """Prefer the key and host in `settings` to the stored project's."""
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
        """The host that events are sent to, unless the stored project has another."""
        return self._host or US_INGESTION_HOST

    async def differs_from_connected(self) -> bool:
        """Whether `POSTHOG_API_KEY` is set to another key than the connected project's.

        Raises:
            HogsendError: the credentials service cannot be reached.
        """
        if self._configured is None:
            return False
        stored = await self._stored.get()
        return bool(stored.project_api_key) and stored.project_api_key != self._configured.key

    async def project(self) -> Project | None:
        """Return the project; None when none is configured or stored.

        Raises:
            HogsendError: the credentials service cannot be reached, so it is not known whether a
                project is stored.
        """
        if self._configured is not None:
            return self._configured
        stored = await self._stored.get()
        if not stored.project_api_key:
            return None
        host = self._host or ingestion_host(stored.private_host or "") or US_INGESTION_HOST
        return Project(stored.project_api_key, host)

    async def project_for_events(self) -> Project | None:
        """Return the project as `project` does, for events that can be retried.

        Raises:
            HogsendError: as for `project`; also when no project is stored but one is expected,
                because PostHog was connected a moment ago and provisioning follows.
        """
        project = await self.project()
        if project is None and await self.is_awaited():
            raise Unavailable("PostHog was connected, and its project is not stored yet")
        return project

    async def is_awaited(self) -> bool:
        """Whether a project is expected: PostHog was connected in the last `PROVISIONING_SECONDS`.

        Raises:
            HogsendError: the credentials service cannot be reached.
        """
        connected_at = (await self._stored.get()).connected_at
        if connected_at is None:
            return False
        # `connected_at` is by PostgreSQL's clock, which may be ahead of this one: hence `abs`. A
        # clock that is ahead by days must not make events wait for days.
        return abs((datetime.now(UTC) - connected_at).total_seconds()) < PROVISIONING_SECONDS
