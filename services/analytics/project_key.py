"""The key events are captured with: the operator's, else the one connect found (spec, D-15).

It is public by design and can never read. Without one, capturing is a silent no-op.
"""

from __future__ import annotations

import structlog
from nats.aio.msg import Msg

from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_PROJECT, ProviderRef
from hogsend.contract.errors import HogsendError
from hogsend.posthog.hosts import US_INGESTION_HOST, ingestion_host
from hogsend.service import metrics
from hogsend.service.settings import PostHogSettings
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

PROVIDER = "posthog"


class Project:
    """A project and where its events go."""

    def __init__(self, key: str, host: str) -> None:
        """Capture with `key` at `host`."""
        self.key = key
        self.host = host.rstrip("/")

    def __repr__(self) -> str:
        """Name the host, never the key."""
        return f"Project({self.host!r})"


class ProjectKey:
    """Knows the project; asks credentials again whenever the credential changes."""

    def __init__(self, bus: Connection, settings: PostHogSettings) -> None:
        """Ask on `bus` when the environment has no key; call `follow` once it is connected."""
        self._bus = bus
        key = settings.posthog_api_key
        self._host = settings.posthog_host
        self._configured = (
            Project(key.get_secret_value(), settings.posthog_host or US_INGESTION_HOST)
            if key
            else None
        )
        self._stored: Project | None = None
        self._is_known = self._configured is not None
        self._changes = 0

    @property
    def from_environment(self) -> bool:
        """Whether `POSTHOG_API_KEY` is set."""
        return self._configured is not None

    @property
    def host(self) -> str:
        """Where events go when nothing says otherwise."""
        return (self._host or US_INGESTION_HOST).rstrip("/")

    async def follow(self) -> None:
        """Hear of every credential change from now on."""
        await self._bus.client.subscribe(subjects.credential_changed(PROVIDER), cb=self._on_change)
        self._bus.on_reconnect(self._forget)

    async def project(self) -> Project | None:
        """Give the project; None when there is none, for sure.

        Raises:
            HogsendError: credentials cannot be asked.
        """
        if self._configured is not None:
            return self._configured
        if not self._is_known:
            await self._ask()
        return self._stored

    async def _ask(self) -> None:
        changes = self._changes
        reply = await self._bus.request(CREDENTIALS_PROJECT, ProviderRef(provider_id=PROVIDER))
        key = reply.project_api_key
        host = self._host or ingestion_host(reply.private_host or "") or US_INGESTION_HOST
        self._stored = Project(key, host) if key else None
        # An answer that a change overtook is given once, and asked for again the next time.
        self._is_known = changes == self._changes

    async def _on_change(self, _message: Msg) -> None:
        await self._forget()

    async def _forget(self) -> None:
        self._changes += 1
        self._is_known = False
        if self._configured is None:
            try:
                await self._ask()
            except HogsendError as error:
                metrics.FAILURES.labels("project_key", error.code).inc()
                log.debug("the project key is asked for when it is needed", reason=str(error))
