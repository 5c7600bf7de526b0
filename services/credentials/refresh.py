"""Refreshes grants: one refresh at a time over all replicas, and never a refreshed token lost.

PostHog rotates the refresh token on every use, accepts the one before for another 120 s, and
revokes everything when it is used later. So the new grant is committed before anything else
happens, a refresh that a crash cut off is repeated at once, and one that the database could not
take is kept and offered again (contract 3.5, posthog-http-facts).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter

from hogsend.contract.credentials import OAuthPayload
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.credential_watcher import token_digest
from hogsend.service.database import AWAY
from services.credentials.change_relay import ChangeRelay
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.store import (
    CredentialStore,
    RefreshLock,
    RefreshState,
    SealedRow,
    Snapshot,
)
from services.credentials.token_endpoint import RefreshFailed, TokenEndpoint

log = structlog.get_logger(__name__)

SKEW = timedelta(seconds=60)
"""A token is refreshed when this much of its life is left."""
BACK_OFF = timedelta(seconds=60)
"""After a failure nobody tries again for this long."""
IDLE = timedelta(days=7)
"""A grant this old is refreshed even if its access token lives longer: PostHog's refresh tokens
end after 30 days."""
LOOK_SECONDS = 5.0
"""How often grants are looked at for a refresh that is due."""
RETRY_SECONDS = 1.0
FINISH_SECONDS = 12.0

REFRESHES = Counter("hogsend_token_refreshes", "Refreshes of OAuth grants", ["outcome"])

Clock = Callable[[], datetime]


class Grant(msgspec.Struct, frozen=True):
    """A grant at a provider's version."""

    payload: OAuthPayload
    version: int


class PendingGrant(msgspec.Struct, frozen=True):
    """A refreshed grant the database could not take yet."""

    grant: Grant
    replaced: SealedRow


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def is_fresh(grant: OAuthPayload, now: datetime) -> bool:
    """Whether a grant's access token has more than `SKEW` left."""
    return grant.expires_at - SKEW > now


class Refresher:
    """Keeps the stored grants alive."""

    def __init__(
        self,
        store: CredentialStore,
        sealer: PayloadSealer,
        endpoint: TokenEndpoint,
        relay: ChangeRelay,
        now: Clock = utc_now,
    ) -> None:
        """Refresh what is in `store` at `endpoint`, and announce it with `announcer`."""
        self._store = store
        self._sealer = sealer
        self._endpoint = endpoint
        self._relay = relay
        self._now = now
        self._running: dict[str, asyncio.Task[Grant | None]] = {}
        self._pending: dict[str, PendingGrant] = {}

    async def refresh(self, provider: str, rejected_sha256: str | None = None) -> Grant | None:
        """Give the provider's grant, refreshed if that is due and possible.

        Callers in this process share one attempt; it goes on when a caller gives up.

        Args:
            provider: whose grant.
            rejected_sha256: digest of an access token that no longer works, however fresh it looks.

        Returns:
            The newest grant there is, which may have expired; None when there is none.

        Raises:
            Unavailable: PostgreSQL is away, or another replica's refresh does not end.
        """
        running = self._running.get(provider)
        if running is None:
            running = asyncio.create_task(self._refresh(provider, rejected_sha256))
            self._running[provider] = running
            running.add_done_callback(lambda _task: self._running.pop(provider))
        return await asyncio.shield(running)

    def pending(self, provider: str) -> Grant | None:
        """Give the refreshed grant the database could not take yet, if there is one."""
        pending = self._pending.get(provider)
        return pending.grant if pending else None

    async def renew_forever(self) -> None:
        """Refresh every grant before it expires, and at once what a crash cut off."""
        looked = False
        while True:
            # A grant that expired while nothing ran waits for somebody to need it, or a moment.
            if await self.renew(only_interrupted=not looked):
                looked = True
            await asyncio.sleep(LOOK_SECONDS if looked else RETRY_SECONDS)

    async def renew(self, *, only_interrupted: bool = False) -> bool:
        """Refresh what is due now; False when PostgreSQL could not say what that is."""
        try:
            for provider in await self._store.granted():
                if self._is_due(await self._store.load(provider), only_interrupted):
                    await self.refresh(provider)
        except Unavailable as error:
            metrics.FAILURES.labels("refresh", error.code).inc()
            log.debug("refreshing waits", reason=str(error))
            return False
        return True

    async def finish(self) -> None:
        """Wait for refreshes under way, so that stopping loses no rotated token."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=FINISH_SECONDS)

    def _is_due(self, stored: Snapshot, only_interrupted: bool) -> bool:
        state = stored.refresh
        if state is not None and state.needs_reconnect:
            return False
        if state is not None and state.started_at is not None:
            return True
        row, grant = stored.rows.get("oauth"), self._sealer.grant(stored.rows).payload
        if only_interrupted or row is None or grant is None or self._backs_off(state):
            return False
        now = self._now()
        return not is_fresh(grant, now) or row.updated_at + IDLE < now

    def _backs_off(self, state: RefreshState | None) -> bool:
        failed_at = state.failed_at if state else None
        return failed_at is not None and self._now() < failed_at + BACK_OFF

    async def _refresh(self, provider: str, rejected_sha256: str | None) -> Grant | None:
        async with self._store.refresh_lock(provider) as lock:
            stored = await lock.load()
            row, payload = stored.rows.get("oauth"), self._sealer.grant(stored.rows).payload
            if row is None or payload is None:
                self._pending.pop(provider, None)
                return None
            pending = self._pending_for(provider, row)
            if pending is None:
                grant = Grant(payload, stored.version)
                if not self._must_refresh(stored, row, payload, rejected_sha256):
                    return grant
                now = self._now()
                await lock.start(row, now)
                try:
                    renewed = await self._endpoint.renew(payload, now)
                except RefreshFailed as error:
                    await self._note_failure(provider, lock, row, error)
                    return grant
                pending = PendingGrant(Grant(renewed, stored.version), row)
            newest = await self._save(provider, lock, pending)
        await self._announce(provider)
        return newest

    def _must_refresh(
        self, stored: Snapshot, row: SealedRow, grant: OAuthPayload, rejected_sha256: str | None
    ) -> bool:
        # Asked again with the turn in hand: another replica may have done it, or failed, meanwhile.
        state = stored.refresh
        if self._backs_off(state):
            return False
        now = self._now()
        return (
            not is_fresh(grant, now)
            or rejected_sha256 == token_digest(grant.access_token)
            or row.updated_at + IDLE < now
            or (state is not None and state.started_at is not None)
        )

    def _pending_for(self, provider: str, row: SealedRow) -> PendingGrant | None:
        pending = self._pending.get(provider)
        if pending is not None and pending.replaced.updated_at != row.updated_at:
            # Connected again, or refreshed by another replica: that one counts.
            self._pending.pop(provider)
            return None
        return pending

    async def _save(self, provider: str, lock: RefreshLock, pending: PendingGrant) -> Grant | None:
        self._pending[provider] = pending
        payload = pending.grant.payload
        try:
            version = await lock.save(pending.replaced, self._sealer.seal(payload))
        except (*AWAY, asyncpg.PostgresError) as error:
            REFRESHES.labels("unsaved").inc()
            log.warning(
                "a refreshed grant could not be stored; it is kept in memory and offered again",
                provider=provider,
                reason=type(error).__name__,
            )
            return pending.grant
        del self._pending[provider]
        if version is None:
            log.info("a refreshed grant is dropped: it was replaced meanwhile", provider=provider)
            stored = await lock.load()
            current = self._sealer.grant(stored.rows).payload
            return Grant(current, stored.version) if current else None
        REFRESHES.labels("ok").inc()
        log.info("grant refreshed", provider=provider, version=version)
        return Grant(payload, version)

    async def _announce(self, provider: str) -> None:
        try:
            await self._relay.relay(provider)
        except Unavailable as error:
            # It stays pending, and the announcer catches up.
            metrics.FAILURES.labels("refresh", error.code).inc()
            log.warning("a refresh is announced later", provider=provider, reason=str(error))

    async def _note_failure(
        self, provider: str, lock: RefreshLock, row: SealedRow, error: RefreshFailed
    ) -> None:
        failures = await lock.fail(
            row, self._now(), str(error), needs_reconnect=error.needs_reconnect
        )
        REFRESHES.labels("refused" if error.needs_reconnect else "failed").inc()
        say = log.warning if failures == 1 else log.debug
        say(
            f"refreshing failed ({error}); if it stays so, run `hogsend connect {provider}` again",
            provider=provider,
            needs_reconnect=error.needs_reconnect,
        )
