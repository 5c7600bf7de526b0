"""Checks with a trial read whether persons can be read; concurrent callers share one trial."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from hogsend.contract.credentials import CredentialChanged, TokenReply
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from services.analytics.persons.access import PersonAccess

CHECK_SECONDS = 3.0
"""Longest trial read. Callers of the capabilities endpoint wait 5 s."""
TRIAL_CACHE_SECONDS = 5.0
"""How long the outcome of a trial is returned again, unless the credential changes."""


class _Trial(msgspec.Struct, frozen=True):
    task: asyncio.Task[TokenReply]
    expires_at: float
    """When the outcome expires, in seconds on the monotonic clock."""
    version: int | None
    """Version of the credential at the start of the trial; None when it was not known."""


class ReadTrial:
    """Runs trial reads and caches the latest outcome."""

    def __init__(
        self,
        bearers: BearerCache,
        access: PersonAccess,
        watcher: CredentialWatcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read with a bearer of `bearers`; repeat after `watcher` reports a credential change."""
        self._bearers = bearers
        self._access = access
        self._clock = clock
        self._latest: _Trial | None = None
        watcher.on_change(self._changed)

    async def outcome(self) -> TokenReply:
        """Run a trial read, or return the outcome of one from the last `TRIAL_CACHE_SECONDS`.

        Returns:
            The bearer that PostHog accepted; a bearer without a token when there is no credential.

        Raises:
            HogsendError: another service did not reply.
            PostHogError: PostHog refused, or cannot be reached.
            TimeoutError: the read took longer than `CHECK_SECONDS`.
        """
        trial, version = self._latest, self._bearers.version
        if (
            trial is None
            or trial.expires_at <= self._clock()
            or trial.version not in {None, version}
        ):
            task = asyncio.create_task(self._read_person())
            # All callers may be cancelled; asyncio would log an exception that is never retrieved.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            trial = _Trial(task, self._clock() + TRIAL_CACHE_SECONDS, version)
            self._latest = trial
        return await asyncio.shield(trial.task)

    async def _read_person(self) -> TokenReply:
        async with asyncio.timeout(CHECK_SECONDS):
            bearer = await self._bearers.token()
            if bearer.token is None:
                return bearer
            _, used = await self._access.call(lambda persons: persons.check_readable(), bearer)
        return used

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._latest = None
