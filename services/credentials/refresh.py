"""Refreshes grants: one refresh at a time over all replicas, without losing a refreshed token.

PostHog rotates the refresh token of a registered application on every use. It accepts the previous
refresh token for another 120 s, and revokes the whole grant when it is used later (contract 3.5,
`posthog/api/oauth/`). PostHog does not rotate the refresh tokens of clients with a metadata
document, but this module does not rely on that. Five rules follow:

- A refreshed grant is committed before anything else happens.
- A refresh that a crash interrupted is repeated at once, while the previous token is accepted.
- A refresh whose response was lost is repeated several times while the previous token is accepted,
  and sooner than a refresh that was refused.
- A refreshed grant that the database cannot store is kept in memory and saved at the next attempt.
- Once the 120 s may be over, the previous token is not used for a minute. In this time, a replica
  that has the next token in memory can save it.
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
from services.credentials.records import SealedRow
from services.credentials.refresh_lock import RefreshLock
from services.credentials.refresh_schedule import (
    failed_at,
    is_due,
    may_be_refreshed_elsewhere,
    must_refresh,
    unanswered_since,
)
from services.credentials.store import CredentialStore
from services.credentials.token_endpoint import RefreshFailed, TokenEndpoint

log = structlog.get_logger(__name__)

CHECK_SECONDS = 5.0
"""How often grants are checked for a due refresh."""
FINISH_SECONDS = 12.0
"""Longest wait for running refreshes when the service stops."""

REFRESHES = Counter("hogsend_token_refreshes", "Refreshes of OAuth grants", ["outcome"])
metrics.initialize_at_zero(REFRESHES, "ok", "failed", "lost", "refused", "unsaved")

Clock = Callable[[], datetime]


class Grant(msgspec.Struct, frozen=True):
    """A grant, and the version of the provider's credential that it belongs to."""

    payload: OAuthPayload
    version: int


class PendingGrant(msgspec.Struct, frozen=True):
    """A refreshed grant that is not in the database yet."""

    grant: Grant
    replaced: SealedRow
    """The row of the grant that was refreshed."""


def utc_now() -> datetime:
    """Return the current time."""
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

        Callers in this process share one attempt. It continues when a caller is cancelled.

        Args:
            provider: the provider of the grant.
            rejected_sha256: digest of an access token that PostHog rejected; it is refreshed even
                if it has not expired.

        Returns:
            The newest grant, which may have expired; None when none is stored.

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
        ran is refreshed by the first check after that, or when its token is requested.
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
        """Refresh the grants whose refresh is due, was interrupted, or lost its response.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        for provider in await self._store.granted_providers():
            if provider in self._pending or await self._is_due(provider):
                await self.refresh(provider)

    async def finish(self) -> None:
        """Wait for running refreshes, so that stopping loses no rotated token."""
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
                if may_be_refreshed_elsewhere(stored.refresh, now):
                    await self._back_off_for_other_replica(provider, lock, row)
                    return grant
                unanswered = unanswered_since(stored.refresh, now)
                # At most `now`: the start may be from a replica whose clock is ahead. A start later
                # than the failure of this attempt would look like an interrupted refresh, which is
                # repeated without a back-off.
                await lock.record_start(row, min(unanswered or now, now))
                try:
                    renewed = await self._endpoint.renew(payload, now)
                except RefreshFailed as error:
                    response_lost = error.response_lost or unanswered is not None
                    await self._record_failure(
                        provider, lock, row, error, response_lost=response_lost
                    )
                    return grant
                pending = PendingGrant(Grant(renewed, stored.version), row)
            newest = await self._save(provider, lock, pending)
        await self._publish(provider)
        return newest

    async def _back_off_for_other_replica(
        self, provider: str, lock: RefreshLock, row: SealedRow
    ) -> None:
        """Make all replicas back off while another one may save the refreshed grant."""
        reason = "a refresh did not end, and the replica that started it may still store the grant"
        await lock.record_failure(row, self._now(), reason, needs_reconnect=False)
        log.warning("the grant is refreshed after a minute", provider=provider, reason=reason)

    def _pending_for(self, provider: str, row: SealedRow) -> PendingGrant | None:
        pending = self._pending.get(provider)
        if pending is not None and pending.replaced.updated_at != row.updated_at:
            # Connecting again or another replica replaced the stored grant, which takes precedence.
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
        response_lost: bool,
    ) -> None:
        failures = await lock.record_failure(
            row,
            failed_at(self._now(), error.retry_after, response_lost=response_lost),
            str(error),
            needs_reconnect=error.needs_reconnect,
            response_lost=response_lost and not error.needs_reconnect,
        )
        outcome = "lost" if error.response_lost else "failed"
        REFRESHES.labels("refused" if error.needs_reconnect else outcome).inc()
        # Consecutive failures are logged once at warning level.
        write_log = log.warning if failures == 1 else log.debug
        write_log(
            f"refreshing failed ({error}); if it stays so, run `hogsend connect {provider}` again",
            provider=provider,
            needs_reconnect=error.needs_reconnect,
        )
