"""Which bearer to use: the OAuth grant, else the personal key, else none (seed's order)."""

from __future__ import annotations

import structlog

from hogsend.contract.credentials import TokenReply, TokenRequest
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.credential_watcher import token_digest
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.refresh import Clock, Grant, Refresher, is_fresh, utc_now
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)


class TokenResolver:
    """Resolves bearers, refreshing on demand."""

    def __init__(
        self,
        store: CredentialStore,
        sealer: PayloadSealer,
        refresher: Refresher,
        personal_key: str | None,
        now: Clock = utc_now,
    ) -> None:
        """Resolve from `store` first, then `personal_key`."""
        self._store = store
        self._sealer = sealer
        self._refresher = refresher
        self._personal_key = personal_key
        self._now = now

    async def resolve(self, request: TokenRequest) -> TokenReply:
        """Resolve a bearer; a failing refresh degrades, it never raises.

        Raises:
            Unavailable: PostgreSQL is away, so that nothing is known.
        """
        provider = request.provider_id
        try:
            stored = await self._store.load(provider)
        except Unavailable:
            pending = self._refresher.pending(provider)
            if pending is None or pending.payload.expires_at <= self._now():
                raise
            return _oauth(pending)
        payload = self._sealer.grant(stored.rows).payload
        if payload is None:
            return self._fallback(stored.version)
        grant: Grant | None = Grant(payload, stored.version)
        if (
            not is_fresh(payload, self._now())
            or self._is_rejected(request, payload.access_token)
            or self._refresher.pending(provider)
        ):
            grant = await self._refreshed(request, Grant(payload, stored.version))
        if grant is None:
            return self._fallback(stored.version)
        if grant.payload.expires_at > self._now() and not self._is_rejected(
            request, grant.payload.access_token
        ):
            return _oauth(grant)
        return self._fallback(grant.version)

    async def _refreshed(self, request: TokenRequest, grant: Grant) -> Grant | None:
        provider = request.provider_id
        try:
            return await self._refresher.refresh(provider, request.rejected_sha256)
        except Unavailable as error:
            metrics.FAILURES.labels("tokens", error.code).inc()
            log.warning("refreshing was not possible", provider=provider, reason=str(error))
            return self._refresher.pending(provider) or grant

    def _is_rejected(self, request: TokenRequest, access_token: str) -> bool:
        return request.rejected_sha256 == token_digest(access_token)

    def _fallback(self, version: int) -> TokenReply:
        return TokenReply(
            source="personal_key" if self._personal_key else "none",
            version=version,
            token=self._personal_key,
        )


def _oauth(grant: Grant) -> TokenReply:
    return TokenReply(
        source="oauth",
        version=grant.version,
        token=grant.payload.access_token,
        expires_at=grant.payload.expires_at,
    )
