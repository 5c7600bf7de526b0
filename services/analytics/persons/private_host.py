"""Where PostHog's private API is: the operator's word, else what connect found."""

from __future__ import annotations

from nats.aio.msg import Msg

from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_PROJECT, ProviderRef
from hogsend.posthog.hosts import US_INGESTION_HOST, private_host
from hogsend.service.settings import PostHogSettings
from hogsend.transport.connection import Connection
from services.analytics.project_key import PROVIDER


class PrivateHost:
    """Knows the host; asks credentials again whenever the credential changes."""

    def __init__(self, bus: Connection, settings: PostHogSettings) -> None:
        """Ask on `bus` when the environment says nothing; call `follow` once it is connected."""
        self._bus = bus
        self._configured = settings.private_host
        self._found: str | None = None

    async def follow(self) -> None:
        """Hear of every credential change from now on."""
        await self._bus.client.subscribe(subjects.credential_changed(PROVIDER), cb=self._on_change)
        self._bus.on_reconnect(self._forget)

    async def find(self) -> str:
        """Give the host. A grant's own comes before PostHog Cloud's, which must not see its token.

        Raises:
            HogsendError: credentials cannot be asked.
        """
        if self._configured is not None:
            return self._configured
        if self._found is None:
            reply = await self._bus.request(CREDENTIALS_PROJECT, ProviderRef(provider_id=PROVIDER))
            found = reply.private_host or reply.grant_origin or private_host(US_INGESTION_HOST)
            self._found = found.rstrip("/")
        return self._found

    async def _on_change(self, _message: Msg) -> None:
        await self._forget()

    async def _forget(self) -> None:
        self._found = None
