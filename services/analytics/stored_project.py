"""The project that the credentials service stores, cached until the credential changes."""

from __future__ import annotations

from hogsend.contract.credentials import (
    CREDENTIALS_PROJECT,
    CredentialChanged,
    ProjectReply,
    ProviderRef,
)
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection


class StoredProject:
    """Caches the stored project.

    While the credentials service cannot be reached, the last reply stays valid until the credential
    changes, because the stored project changes only with the credential.
    """

    def __init__(self, link: Connection, watcher: CredentialWatcher) -> None:
        """Request the project over `link` whenever `watcher` reports a credential change."""
        self._link = link
        self._provider = watcher.provider
        self._is_outdated = False
        # The watcher requests the project at once and every 30 s, so callers rarely have to wait.
        self._reply = watcher.watch("project", self._request, eager=True, on_value=self._on_reply)
        watcher.on_change(self._changed)

    async def get(self) -> ProjectReply:
        """Return the stored project.

        Raises:
            HogsendError: the cached project is outdated, and the credentials service cannot be
                reached.
        """
        cached = self._reply.value
        if cached is not None and not self._is_outdated:
            return cached
        return await self._reply.refresh()

    async def _request(self) -> ProjectReply:
        return await self._link.request(CREDENTIALS_PROJECT, ProviderRef(self._provider))

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._is_outdated = True

    def _on_reply(self, _reply: ProjectReply) -> None:
        # A reply is not current if the credential changed after the request.
        if self._reply.is_current:
            self._is_outdated = False
