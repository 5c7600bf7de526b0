"""A service's own copy of a provider's bearer, dropped the moment the credential changes."""

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
"""A token with less than this left is asked for again, so that credentials can refresh it."""


class BearerCache:
    """The bearer for one provider."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Ask over `link`, and follow the credential with `watcher`."""
        self._link = link
        self._provider = watcher.provider
        self._now = now
        self._bearer = watcher.watch("bearer", self._ask, at_once=True)

    @property
    def version(self) -> int | None:
        """Version of the credential that is held; None when none is."""
        held = self._bearer.held
        return held.version if held else None

    async def token(self) -> TokenReply:
        """Give the bearer; callers at the same time share one request.

        Raises:
            Unavailable: credentials cannot be asked and no token that still lives is held.
        """
        held = self._bearer.held
        if held is not None and self._bearer.is_current and self._is_fresh(held):
            return held
        try:
            return await self._bearer.refresh()
        except Unavailable as error:
            if held is None or held.token is None or self._has_expired(held):
                raise
            metrics.FAILURES.labels("bearer", error.code).inc()
            log.warning("the current token stays in use", reason=str(error))
            return held

    async def instead_of(self, rejected_sha256: str) -> TokenReply:
        """Give another bearer than one PostHog refused, which credentials refreshes.

        Args:
            rejected_sha256: hex digest of that token, see `hogsend.contract.credentials`.

        Raises:
            Unavailable: credentials cannot be asked.
        """
        request = TokenRequest(provider_id=self._provider, rejected_sha256=rejected_sha256)
        return await self._bearer.ask(lambda: self._link.request(CREDENTIALS_TOKEN, request))

    async def _ask(self) -> TokenReply:
        request = TokenRequest(provider_id=self._provider)
        return await self._link.request(CREDENTIALS_TOKEN, request)

    def _is_fresh(self, held: TokenReply) -> bool:
        return held.expires_at is None or held.expires_at - SKEW > self._now()

    def _has_expired(self, held: TokenReply) -> bool:
        return held.expires_at is not None and held.expires_at <= self._now()
