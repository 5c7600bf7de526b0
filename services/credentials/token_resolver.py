"""Resolves the bearer to use: the OAuth grant, else the personal key, else none."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import structlog

from hogsend.contract.credentials import (
    OAuthPayload,
    ProvisionedProject,
    TokenReply,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.refresh import Clock, Grant, Refresher, utc_now
from services.credentials.refresh_times import is_fresh
from services.credentials.shared_loads import SharedLoads
from services.credentials.store import CredentialStore
from services.credentials.stored import Rows

log = structlog.get_logger(__name__)


class _Beside(NamedTuple):
    """What was stored beside a grant when it was read last."""

    project: ProvisionedProject | None = None
    generation: int | None = None


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
        """Resolve from the grant in `store`, and from `personal_key` without a usable one."""
        self._stored = SharedLoads(store.load)
        self._sealer = sealer
        self._refresher = refresher
        self._personal_key = personal_key
        self._now = now
        # Kept for when PostgreSQL is down: the project must not become another one then.
        self._beside: dict[str, _Beside] = {}

    async def resolve(self, request: TokenRequest) -> TokenReply:
        """Resolve a bearer. A refresh that fails degrades the answer and is not raised.

        Raises:
            Unavailable: PostgreSQL is not available, and no refreshed grant is held in memory.
        """
        provider = request.provider_id
        try:
            stored = await self._stored.load(provider)
        except Unavailable:
            pending = self._refresher.pending(provider)
            if pending is None or not self._is_usable(pending, request):
                raise
            known = self._beside.get(provider, _Beside())
            return _about(_oauth(pending), pending.payload, known)
        # Not read again after a refresh, which may have waited while another grant was connected.
        beside = _Beside(self._project(stored.rows), stored.generation)
        self._beside[provider] = beside
        payload = self._sealer.grant(stored.rows).payload
        if payload is None:
            reply = self._fallback(stored.version)
        else:
            reply = await self._bearer(request, Grant(payload, stored.version))
        return _about(reply, payload, beside)

    async def _bearer(self, request: TokenRequest, stored: Grant) -> TokenReply:
        grant: Grant | None = stored
        if (
            not is_fresh(stored.payload, self._now())
            or request.rejected_sha256 == token_digest(stored.payload.access_token)
            or self._refresher.pending(request.provider_id)
        ):
            grant = await self._refreshed(request, stored)
        if grant is None:
            return self._fallback(stored.version)
        if self._is_usable(grant, request):
            return _oauth(grant)
        why = await self._why_not_refreshed(request.provider_id, grant.payload)
        return self._fallback(grant.version, why)

    async def _why_not_refreshed(self, provider: str, grant: OAuthPayload) -> str | None:
        """Tell why a grant without a usable token will have one again; None where it will not."""
        try:
            state = (await self._stored.load(provider)).refresh
        except Unavailable as error:
            metrics.FAILURES.labels("tokens", error.code).inc()
            log.debug("why a grant is not refreshed is not known", reason=str(error))
            return str(error)
        if state is not None and state.needs_reconnect:
            return None
        if state is not None and state.reason is not None:
            return state.reason
        # One that has not expired was refused by PostHog, which refreshed it before without error.
        return "the refresh is under way" if grant.expires_at <= self._now() else None

    def _project(self, rows: Rows) -> ProvisionedProject | None:
        derived = self._sealer.derived(rows).payload
        if derived is None or not derived.project_id or not derived.private_host:
            return None
        return ProvisionedProject(derived.project_id, derived.private_host)

    async def _refreshed(self, request: TokenRequest, grant: Grant) -> Grant | None:
        provider = request.provider_id
        try:
            return await self._refresher.refresh(provider, request.rejected_sha256)
        except Unavailable as error:
            metrics.FAILURES.labels("tokens", error.code).inc()
            log.warning("the grant could not be refreshed", provider=provider, reason=str(error))
            return grant

    def _is_usable(self, grant: Grant, request: TokenRequest) -> bool:
        payload = grant.payload
        rejected = request.rejected_sha256 == token_digest(payload.access_token)
        return payload.expires_at > self._now() and not rejected

    def _fallback(self, version: int, not_refreshed: str | None = None) -> TokenReply:
        return TokenReply(
            source="personal_key" if self._personal_key else "none",
            version=version,
            token=self._personal_key,
            not_refreshed=not_refreshed,
        )


def _about(reply: TokenReply, grant: OAuthPayload | None, beside: _Beside) -> TokenReply:
    """Add which projects are meant, the grant's when the personal key stands in, and since when."""
    return msgspec.structs.replace(
        reply,
        scoped_teams=grant.scoped_teams if grant else [],
        provisioned_project=beside.project,
        generation=beside.generation,
    )


def _oauth(grant: Grant) -> TokenReply:
    return TokenReply(
        source="oauth",
        version=grant.version,
        token=grant.payload.access_token,
        expires_at=grant.payload.expires_at,
    )
