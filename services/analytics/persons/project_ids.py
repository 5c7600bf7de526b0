"""Which project a bearer reads.

Where nothing says which one, PostHog is asked once, and again when it may be another one.
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
    """Version of the credential it belongs to; a refresh does not change the project."""


class ProjectIds:
    """Project ids by host and kind of credential.

    An id is valid for the version of the credential it was discovered with, and for the next one
    when that was announced as a refresh. So a change that was not heard of, with a lost event,
    makes PostHog be asked again.
    """

    def __init__(self, configured: str | None, watcher: CredentialWatcher) -> None:
        """Choose by `configured` (`POSTHOG_PROJECT_ID`), the grant and what was provisioned."""
        self._configured = configured
        self._discovered: dict[tuple[str, str], _Discovered] = {}
        self._discovering = asyncio.Lock()
        watcher.on_change(self._changed)

    def why_refused(self, error: PostHogError, bearer: TokenReply, host: str) -> str | None:
        """Say why PostHog refuses the project, and what to do, if it is the project."""
        choice = choose_project(self._configured, bearer, host)
        if error.status in DENIED and not choice.is_covered:
            return f"{choice.mismatch} {choice.remedy}"
        return choice.when_refused(error)

    async def of(self, bearer: TokenReply, host: str, transport: Transport) -> str:
        """Give the project's id, asking PostHog over `transport` if necessary.

        Raises:
            PostHogError: PostHog does not say.
        """
        choice = choose_project(self._configured, bearer, host)
        if choice.id is not None:
            return choice.id
        key = host, bearer.source
        async with self._discovering:
            known = self._discovered.get(key)
            if known is not None and known.version == bearer.version:
                return known.project_id
            project = await Projects(transport).get(None, seconds=DISCOVERY_SECONDS)
            if project.id is None:
                raise PostHogError("PostHog does not say which project this is")
            self._discovered[key] = _Discovered(project.id, bearer.version)
            return project.id

    def _changed(self, change: CredentialChanged | None) -> None:
        if change is None or change.change != "refreshed":
            # The bearer's next version shows that the project may be another one.
            return
        for known in self._discovered.values():
            if known.version == change.version - 1:
                known.version = change.version
