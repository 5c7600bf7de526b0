"""Tries whether persons can be read, once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from hogsend.contract.credentials import CredentialChanged, TokenReply
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from services.analytics.persons.access import PersonAccess

TRIAL_SECONDS = 3.0
"""Longest trial of a read; who asks for capabilities waits 5 s."""
TRIAL_KEPT_SECONDS = 5.0
"""How long the outcome of a trial is given again; a change of the credential ends it."""


class _Trial(msgspec.Struct, frozen=True):
    task: asyncio.Task[TokenReply]
    ends_at: float
    """When its outcome is given no more, by the clock."""
    version: int | None
    """Version of the credential that was held."""


class ReadTrial:
    """The latest trial, and its outcome while that counts."""

    def __init__(
        self,
        bearers: BearerCache,
        access: PersonAccess,
        watcher: CredentialWatcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Try with what `bearers` gives; try anew when `watcher` hears of a change."""
        self._bearers = bearers
        self._access = access
        self._clock = clock
        self._latest: _Trial | None = None
        watcher.on_change(self._changed)

    async def outcome(self) -> TokenReply:
        """Read some person, or give what came of it within the last `TRIAL_KEPT_SECONDS`.

        Returns:
            The bearer that PostHog took; one without a token when there is none to try.

        Raises:
            HogsendError: a service did not answer.
            PostHogError: PostHog refused, or cannot be reached.
            TimeoutError: it took longer than `TRIAL_SECONDS`.
        """
        trial, version = self._latest, self._bearers.version
        if trial is None or trial.ends_at <= self._clock() or trial.version not in {None, version}:
            task = asyncio.create_task(self._try())
            # The caller that started it may be gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            trial = _Trial(task, self._clock() + TRIAL_KEPT_SECONDS, version)
            self._latest = trial
        return await asyncio.shield(trial.task)

    async def _try(self) -> TokenReply:
        async with asyncio.timeout(TRIAL_SECONDS):
            bearer = await self._bearers.token()
            if bearer.token is None:
                return bearer
            _, used = await self._access.ask(lambda persons: persons.try_read(), bearer)
        return used

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._latest = None
