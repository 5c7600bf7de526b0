"""A service's cached copy of a provider's bearer token, invalidated when the credential changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply, TokenRequest
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

SKEW = timedelta(seconds=60)
"""A token that expires within this time is fetched again, so that credentials can refresh it."""


class BearerCache:
    """The bearer token for one provider."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Fetch tokens over `link` when `watcher` reports a change."""
        self._link = link
        self._provider = watcher.provider
        self._now = now
        self._bearer = watcher.watch("bearer", self._fetch, eager=True)

    @property
    def version(self) -> int | None:
        """Version of the credential that the cached token belongs to; None without a token."""
        cached = self._bearer.value
        return cached.version if cached else None

    async def token(self) -> TokenReply:
        """Return the token; concurrent callers share one request.

        Raises:
            Unavailable: credentials could not be reached, and no cached token is still valid.
        """
        cached = self._bearer.value
        if cached is not None and self._bearer.is_current and self._is_fresh(cached):
            return cached
        try:
            return await self._bearer.refresh()
        except Unavailable as error:
            if cached is None or cached.token is None or self._has_expired(cached):
                raise
            metrics.FAILURES.labels("bearer", error.code).inc()
            log.warning("the current token stays in use", reason=str(error))
            return cached

    async def replace_rejected(self, rejected_sha256: str) -> TokenReply:
        """Return a new token after PostHog rejected one; credentials refreshes it.

        Args:
            rejected_sha256: hex digest of the rejected token, see `hogsend.contract.credentials`.

        Raises:
            Unavailable: credentials could not be reached.
        """
        request = TokenRequest(provider_id=self._provider, rejected_sha256=rejected_sha256)
        return await self._bearer.fetch_with(lambda: self._link.request(CREDENTIALS_TOKEN, request))

    async def _fetch(self) -> TokenReply:
        request = TokenRequest(provider_id=self._provider)
        return await self._link.request(CREDENTIALS_TOKEN, request)

    def _is_fresh(self, reply: TokenReply) -> bool:
        return reply.expires_at is None or reply.expires_at - SKEW > self._now()

    def _has_expired(self, reply: TokenReply) -> bool:
        return reply.expires_at is not None and reply.expires_at <= self._now()
