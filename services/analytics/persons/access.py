"""Calls PostHog's persons API: with the current bearer, and not while PostHog limits requests."""

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
"""HTTP statuses whose `Retry-After` delays every further call."""

Result = TypeVar("Result")
Call: TypeAlias = Callable[[Persons], Awaitable[Result]]
"""A call of the persons API."""


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
        """Call over `http`; drop a rate limit when `watcher` reports a credential change."""
        self._bearers = bearers
        self._host = host
        self._project_ids = project_ids
        self._http = http
        self._clock = clock
        self._limited_until = 0.0
        watcher.on_change(self._changed)

    async def call(self, call: Call[Result], bearer: TokenReply) -> tuple[Result, TokenReply]:
        """Call PostHog; retry once with another token when PostHog rejects this one with 401.

        Returns:
            The result, and the bearer that PostHog accepted.

        Raises:
            HogsendError: another service did not reply.
            PostHogError: PostHog refused, or cannot be reached.
        """
        try:
            return await self._call_unless_limited(call, bearer), bearer
        except PostHogError as error:
            if error.status != UNAUTHORIZED or bearer.token is None:
                raise
            fresh = await self._bearers.replace_rejected(token_digest(bearer.token))
            if fresh.token in {None, bearer.token}:
                raise
            return await self._call_unless_limited(call, fresh), fresh

    async def _call_unless_limited(self, call: Call[Result], bearer: TokenReply) -> Result:
        remaining = self._limited_until - self._clock()
        if remaining > 0:
            raise PostHogError(
                f"PostHog limits requests; the next attempt is in {remaining:.0f} s",
                TOO_MANY,
                retry_after=remaining,
            )
        try:
            return await self._call_now(call, bearer)
        except PostHogError as error:
            if error.status in LIMITING and error.retry_after:
                # Concurrent calls may each be refused; a later refusal may name a shorter delay.
                until = self._clock() + error.retry_after
                self._limited_until = max(self._limited_until, until)
            raise

    async def _call_now(self, call: Call[Result], bearer: TokenReply) -> Result:
        host = await self._host.find()
        transport = Transport(self._http, host, bearer.token or "")
        try:
            project_id = await self._project_ids.find(bearer, host, transport)
            return await call(Persons(transport, project_id))
        except PostHogError as error:
            explanation = self._project_ids.explain_refusal(error, bearer, host)
            if explanation is None:
                raise
            raise PostHogError(
                f"{explanation} {error.detail}",
                error.status,
                error.attr,
                retry_after=error.retry_after,
            ) from error

    def _changed(self, _change: CredentialChanged | None) -> None:
        self._limited_until = 0.0
