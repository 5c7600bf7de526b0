"""Determines which project a bearer reads.

Where neither the settings nor the bearer name a project, PostHog is asked, and the id is cached
until the credential changes to one that may belong to another project.
"""

from __future__ import annotations

import asyncio

import msgspec

from hogsend.contract.credentials import CredentialChanged, TokenReply
from hogsend.posthog.api import PostHogError, Projects, Transport
from hogsend.posthog.project_choice import DENIED, choose_project
from hogsend.service.credential_watcher import CredentialWatcher

DISCOVERY_SECONDS = 10.0


class _Discovered(msgspec.Struct):
    project_id: str
    version: int
    """Version of the credential that the project belongs to. A refresh raises the version and does
    not change the project."""


class ProjectIds:
    """Project ids by host and kind of credential.

    A discovered id is valid for the version of the credential it was discovered with, and for the
    next version if that was announced as a refresh. So when the event of a change was lost, the
    version differs, and PostHog is asked again.
    """

    def __init__(self, configured: str | None, watcher: CredentialWatcher) -> None:
        """Choose by `configured` (`POSTHOG_PROJECT_ID`), the grant and the provisioned project."""
        self._configured = configured
        self._discovered: dict[tuple[str, str], _Discovered] = {}
        self._discovering = asyncio.Lock()
        watcher.on_change(self._changed)

    def explain_refusal(self, error: PostHogError, bearer: TokenReply, host: str) -> str | None:
        """Explain a refusal that is due to the choice of project, with a remedy; else None."""
        choice = choose_project(self._configured, bearer, host)
        if error.status in DENIED and not choice.is_covered:
            return f"{choice.mismatch} {choice.remedy}"
        return choice.refusal_remedy(error)

    async def find(self, bearer: TokenReply, host: str, transport: Transport) -> str:
        """Return the id of the project that `bearer` reads, asking PostHog if necessary.

        Raises:
            PostHogError: PostHog does not name the project.
        """
        choice = choose_project(self._configured, bearer, host)
        if choice.id is not None:
            return choice.id
        key = host, bearer.source
        async with self._discovering:
            discovered = self._discovered.get(key)
            if discovered is not None and discovered.version == bearer.version:
                return discovered.project_id
            project = await Projects(transport).get(None, seconds=DISCOVERY_SECONDS)
            if project.id is None:
                raise PostHogError("PostHog does not say which project this is")
            self._discovered[key] = _Discovered(project.id, bearer.version)
            return project.id

    def _changed(self, change: CredentialChanged | None) -> None:
        if change is None or change.change != "refreshed":
            # The project may be another one. The bearer's next version differs from the cached
            # one, so `find` asks PostHog again.
            return
        for discovered in self._discovered.values():
            if discovered.version == change.version - 1:
                discovered.version = change.version
