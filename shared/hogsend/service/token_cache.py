"""A service's own copy of a provider's bearer: dropped the moment the credential changes.

The credential event is what makes a service ask again. Asking every 30 s is the backstop for a lost
event (the spec's bound), never the mechanism.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from nats.aio.msg import Msg

from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply, TokenRequest
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

SKEW = timedelta(seconds=60)
"""A token with less than this left is asked for again, so that credentials can refresh it."""
REVALIDATE = timedelta(seconds=30)
_NEVER = datetime.min.replace(tzinfo=UTC)


def token_digest(token: str) -> str:
    """SHA-256 of a token, in hex: how one that was refused is named without repeating it."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenCache:
    """The bearer for one provider."""

    def __init__(
        self,
        bus: Connection,
        provider: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Ask on `bus`; call `subscribe` once it is connected."""
        self._bus = bus
        self._provider = provider
        self._now = now
        self._held: TokenReply | None = None
        self._asked_at = _NEVER
        self._changes = 0
        self._asking: asyncio.Task[TokenReply] | None = None

    @property
    def version(self) -> int | None:
        """Version of the credential that is held; None when none is."""
        return self._held.version if self._held else None

    async def subscribe(self) -> None:
        """Ask anew at every credential event and reconnection."""
        await self._bus.client.subscribe(
            subjects.credential_changed(self._provider), cb=self._on_change
        )
        self._bus.on_reconnect(self._renew)

    async def token(self) -> TokenReply:
        """Give the bearer; callers at the same time share one request.

        Raises:
            Unavailable: credentials cannot be asked and no token that still lives is held.
        """
        if self._held is not None and self._is_current(self._held):
            return self._held
        try:
            return await self.ask()
        except Unavailable as error:
            held = self._held
            if held is None or held.token is None or self._has_expired(held):
                raise
            metrics.FAILURES.labels("token_cache", error.code).inc()
            log.warning("the token held goes on being used", reason=str(error))
            return held

    async def ask(self, rejected_sha256: str | None = None) -> TokenReply:
        """Ask credentials, whatever is held.

        Args:
            rejected_sha256: hex digest of a token PostHog refused; credentials refreshes that one.

        Raises:
            Unavailable: credentials cannot be asked.
        """
        if rejected_sha256 is not None:
            return await self._ask(rejected_sha256)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(None))
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, task: asyncio.Task[TokenReply]) -> None:
        if self._asking is task:
            self._asking = None

    async def _ask(self, rejected_sha256: str | None) -> TokenReply:
        request = TokenRequest(provider_id=self._provider, rejected_sha256=rejected_sha256)
        changes, asked_at = self._changes, self._now()
        reply = await self._bus.request(CREDENTIALS_TOKEN, request)
        # An answer that a change overtook is given once, and asked for again the next time.
        self._held, self._asked_at = reply, asked_at if changes == self._changes else _NEVER
        return reply

    def _is_current(self, held: TokenReply) -> bool:
        now = self._now()
        if self._asked_at + REVALIDATE <= now:
            return False
        return held.expires_at is None or held.expires_at - SKEW > now

    def _has_expired(self, held: TokenReply) -> bool:
        return held.expires_at is not None and held.expires_at <= self._now()

    async def _on_change(self, _message: Msg) -> None:
        await self._renew()

    async def _renew(self) -> None:
        # Not what is held is dropped, but its claim to be current: credentials may be away.
        self._changes += 1
        self._asked_at = _NEVER
        self._asking = None
        try:
            await self.ask()
        except Unavailable as error:
            metrics.FAILURES.labels("token_cache", error.code).inc()
            log.debug("the new token is asked for when it is needed", reason=str(error))
