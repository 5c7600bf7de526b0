"""Refreshes grants: one refresh at a time over all replicas, and no refreshed token is lost.

PostHog rotates the refresh token of a registered application on every use. It accepts the previous
one for another 120 s and revokes the whole grant when the previous one is used later (contract 3.5,
`posthog/api/oauth/`). That of a client with a metadata document stays; nothing here relies on it.
Five rules follow:

- A refreshed grant is committed before anything else happens.
- A refresh that a crash interrupted is repeated at once, while the previous token still works.
- A refresh whose answer was lost is repeated several times while the previous token still works,
  and sooner than one that was refused.
- A refreshed grant that the database cannot take is kept in memory and saved at the next attempt.
- The previous token is used no more once its 120 s may be over, until the replica that may have the
  next one in memory has had time to save it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Never

import msgspec
import structlog
from prometheus_client import Counter

from hogsend.contract.credentials import OAuthPayload
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.retry import repeat_every, retry_until_available
from services.credentials.change_relay import ChangeRelay
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.refresh_lock import RefreshLock
from services.credentials.refresh_times import (
    failed_at,
    is_due,
    may_be_answered_elsewhere,
    must_refresh,
    unanswered_since,
)
from services.credentials.store import CredentialStore
from services.credentials.stored import SealedRow
from services.credentials.token_endpoint import RefreshFailed, TokenEndpoint

log = structlog.get_logger(__name__)

CHECK_SECONDS = 5.0
"""How often grants are checked for a refresh that is due."""
FINISH_SECONDS = 12.0
"""Longest wait for refreshes under way when the service stops."""

REFRESHES = Counter("hogsend_token_refreshes", "Refreshes of OAuth grants", ["outcome"])
metrics.initialize_at_zero(REFRESHES, "ok", "failed", "lost", "refused", "unsaved")

Clock = Callable[[], datetime]


class Grant(msgspec.Struct, frozen=True):
    """A grant at a provider's version."""

    payload: OAuthPayload
    version: int


class PendingGrant(msgspec.Struct, frozen=True):
    """A refreshed grant that is not in the database yet."""

    grant: Grant
    replaced: SealedRow


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


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
        """Refresh the grants of `store` at `endpoint`, and publish each refresh with `relay`."""
        self._store = store
        self._sealer = sealer
        self._endpoint = endpoint
        self._relay = relay
        self._now = now
        self._running: dict[str, asyncio.Task[Grant | None]] = {}
        self._pending: dict[str, PendingGrant] = {}

    async def refresh(self, provider: str, rejected_sha256: str | None = None) -> Grant | None:
        """Return the provider's grant, refreshed if that is due and possible.

        Callers in this process share one attempt. It goes on when a caller is cancelled.

        Args:
            provider: whose grant.
            rejected_sha256: digest of an access token that PostHog rejected, however fresh it is.

        Returns:
            The newest grant there is, which may have expired; None when there is none.

        Raises:
            Unavailable: PostgreSQL is not available, or another replica's refresh does not end.
        """
        running = self._running.get(provider)
        if running is None:
            running = asyncio.create_task(self._attempt(provider, rejected_sha256))
            self._running[provider] = running
            running.add_done_callback(lambda _task: self._running.pop(provider))
        return await asyncio.shield(running)

    def pending(self, provider: str) -> Grant | None:
        """Return the refreshed grant that is not in the database yet, if there is one."""
        pending = self._pending.get(provider)
        return pending.grant if pending else None

    async def keep_fresh(self) -> Never:
        """Refresh each grant before it expires; cancel the call to stop.

        At the start, only interrupted refreshes are repeated. A grant that expired while no replica
        ran is refreshed by the first check after that, or when its token is asked for.
        """
        await retry_until_available(self.repeat_interrupted)
        await asyncio.sleep(CHECK_SECONDS)
        await repeat_every(CHECK_SECONDS, self.refresh_due)

    async def repeat_interrupted(self) -> None:
        """Repeat the refreshes that a crash interrupted.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        for provider in await self._store.granted_providers():
            state = (await self._store.load(provider)).refresh
            if state is not None and state.is_interrupted and not state.needs_reconnect:
                await self.refresh(provider)

    async def refresh_due(self) -> None:
        """Refresh the grants whose refresh is due, was interrupted, or lost its answer.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        for provider in await self._store.granted_providers():
            if provider in self._pending or await self._is_due(provider):
                await self.refresh(provider)

    async def finish(self) -> None:
        """Wait for refreshes under way, so that stopping loses no rotated token."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=FINISH_SECONDS)

    async def _is_due(self, provider: str) -> bool:
        stored = await self._store.load(provider)
        return is_due(stored, self._sealer.grant(stored.rows).payload, self._now())

    async def _attempt(self, provider: str, rejected_sha256: str | None) -> Grant | None:
        try:
            return await self._refresh(provider, rejected_sha256)
        except Unavailable as error:
            pending = self._pending.get(provider)
            if pending is None:
                raise
            REFRESHES.labels("unsaved").inc()
            log.warning(
                "a refreshed grant could not be stored; it is kept in memory and saved later",
                provider=provider,
                reason=str(error),
            )
            return pending.grant

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
                now = self._now()
                if not must_refresh(stored, row, payload, rejected_sha256, now):
                    return grant
                if may_be_answered_elsewhere(stored.refresh, now):
                    await self._leave_time(provider, lock, row)
                    return grant
                unanswered = unanswered_since(stored.refresh, now)
                # Another replica's clock may be ahead: its start would be later than our failure,
                # which would look like an interrupted refresh, and that is repeated at once.
                await lock.start(row, min(unanswered or now, now))
                try:
                    renewed = await self._endpoint.renew(payload, now)
                except RefreshFailed as error:
                    await self._record_failure(
                        provider, lock, row, error, lost=error.lost or unanswered is not None
                    )
                    return grant
                pending = PendingGrant(Grant(renewed, stored.version), row)
            newest = await self._save(provider, lock, pending)
        await self._publish(provider)
        return newest

    async def _leave_time(self, provider: str, lock: RefreshLock, row: SealedRow) -> None:
        """Have all replicas back off: one that has the refreshed grant saves it meanwhile."""
        reason = "a refresh did not end, and the replica that began it may still store its answer"
        await lock.fail(row, self._now(), reason, needs_reconnect=False)
        log.warning("the grant is refreshed after a minute", provider=provider, reason=reason)

    def _pending_for(self, provider: str, row: SealedRow) -> PendingGrant | None:
        pending = self._pending.get(provider)
        if pending is not None and pending.replaced.updated_at != row.updated_at:
            # The stored grant was replaced, by connecting again or by another replica. It wins.
            del self._pending[provider]
            return None
        return pending

    async def _save(self, provider: str, lock: RefreshLock, pending: PendingGrant) -> Grant | None:
        self._pending[provider] = pending
        payload = pending.grant.payload
        version = await lock.save(pending.replaced, self._sealer.seal(payload))
        del self._pending[provider]
        if version is None:
            log.info("a refreshed grant is dropped: it was replaced meanwhile", provider=provider)
            stored = await lock.load()
            current = self._sealer.grant(stored.rows).payload
            return Grant(current, stored.version) if current else None
        REFRESHES.labels("ok").inc()
        log.info("grant refreshed", provider=provider, version=version)
        return Grant(payload, version)

    async def _publish(self, provider: str) -> None:
        try:
            await self._relay.relay(provider)
        except Unavailable as error:
            # The change stays pending in the outbox.
            metrics.FAILURES.labels("refresh", error.code).inc()
            log.warning("a refresh will be published later", provider=provider, reason=str(error))

    async def _record_failure(
        self,
        provider: str,
        lock: RefreshLock,
        row: SealedRow,
        error: RefreshFailed,
        *,
        lost: bool,
    ) -> None:
        failures = await lock.fail(
            row,
            failed_at(self._now(), error.retry_after, lost=lost),
            str(error),
            needs_reconnect=error.needs_reconnect,
            lost=lost and not error.needs_reconnect,
        )
        outcome = "lost" if error.lost else "failed"
        REFRESHES.labels("refused" if error.needs_reconnect else outcome).inc()
        say = log.warning if failures == 1 else log.debug
        say(
            f"refreshing failed ({error}); if it stays so, run `hogsend connect {provider}` again",
            provider=provider,
            needs_reconnect=error.needs_reconnect,
        )
