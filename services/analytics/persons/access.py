"""Asks PostHog about persons: with the bearer in force, and not while PostHog limits requests."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import httpx

from hogsend.contract.credentials import CredentialChanged, TokenReply, token_digest
from hogsend.posthog.api import Persons, PostHogError, Transport
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.project_ids import ProjectIds

UNAUTHORIZED, TOO_MANY = 401, 429
LIMITING = frozenset({429, 503})
"""Answers whose `Retry-After` is waited for before PostHog is asked again."""

Answer = TypeVar("Answer")
Question: TypeAlias = Callable[[Persons], Awaitable[Answer]]
"""What is asked about persons."""


class PersonAccess:
    """Access to the persons of the project that the credential belongs to."""

    def __init__(
        self,
        bearers: BearerCache,
        host: PrivateHost,
        project_ids: ProjectIds,
        http: httpx.AsyncClient,
        watcher: CredentialWatcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask over `http`; forget a limit when `watcher` hears of a change."""
        self._bearers = bearers
        self._host = host
        self._project_ids = project_ids
        self._http = http
        self._clock = clock
        self._limited_until = 0.0
        watcher.on_change(self._changed)

    async def ask(self, ask: Question[Answer], bearer: TokenReply) -> tuple[Answer, TokenReply]:
        """Ask PostHog, once more with another token if it refuses this one.

        Returns:
            The answer, and the bearer that PostHog took.

        Raises:
            HogsendError: a service did not answer.
            PostHogError: PostHog refused, or cannot be reached.
        """
        try:
            return await self._ask_with(ask, bearer), bearer
        except PostHogError as error:
            if error.status != UNAUTHORIZED or bearer.token is None:
                raise
            fresh = await self._bearers.replace_rejected(token_digest(bearer.token))
            if fresh.token in {None, bearer.token}:
                raise
            return await self._ask_with(ask, fresh), fresh

    async def _ask_with(self, ask: Question[Answer], bearer: TokenReply) -> Answer:
        left = self._limited_until - self._clock()
        if left > 0:
            raise PostHogError(
                f"PostHog limits requests; the next attempt is in {left:.0f} s",
                TOO_MANY,
                retry_after=left,
            )
        try:
            return await self._ask_now(ask, bearer)
        except PostHogError as error:
            if error.status in LIMITING and error.retry_after:
                # Of requests under way together, the last to be refused may name the least.
                until = self._clock() + error.retry_after
                self._limited_until = max(self._limited_until, until)
            raise

    async def _ask_now(self, ask: Question[Answer], bearer: TokenReply) -> Answer:
        host = await self._host.find()
        transport = Transport(self._http, host, bearer.token or "")
        try:
            project_id = await self._project_ids.of(bearer, host, transport)
            return await ask(Persons(transport, project_id))
        except PostHogError as error:
            why = self._project_ids.why_refused(error, bearer, host)
            if why is None:
                raise
            raise PostHogError(
                f"{why} {error.detail}",
                error.status,
                error.attr,
                retry_after=error.retry_after,
            ) from error

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._limited_until = 0.0
