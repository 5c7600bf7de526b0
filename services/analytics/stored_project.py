"""The connected project, as the credentials service stores it."""

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
    """Follows the stored project with the credential.

    While the credentials service cannot be asked, the last answer stays valid until the credential
    changes: what was stored may have changed only with it.
    """

    def __init__(self, link: Connection, watcher: CredentialWatcher) -> None:
        """Ask over `link`, and follow the credential with `watcher`."""
        self._link = link
        self._provider = watcher.provider
        self._is_outdated = False
        # The watcher asks at once and every 30 s, so a caller rarely has to wait for an answer.
        self._reply = watcher.watch("project", self._ask, eager=True, on_value=self._answered)
        watcher.on_change(self._changed)

    @property
    def held(self) -> ProjectReply | None:
        """What was stored when the credentials service was last asked."""
        return self._reply.value

    async def get(self) -> ProjectReply:
        """Give what is stored.

        Raises:
            HogsendError: the credentials service cannot be asked, and must be.
        """
        held = self._reply.value
        if held is not None and not self._is_outdated:
            return held
        return await self._reply.refresh()

    async def _ask(self) -> ProjectReply:
        return await self._link.request(CREDENTIALS_PROJECT, ProviderRef(self._provider))

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._is_outdated = True

    def _answered(self, _reply: ProjectReply) -> None:
        # An answer that a change overtook is not current.
        if self._reply.is_current:
            self._is_outdated = False
