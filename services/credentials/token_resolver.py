"""Resolves the bearer to use: the OAuth grant's, else the personal API key, else none."""

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
from services.credentials.records import Rows
from services.credentials.refresh import Clock, Grant, Refresher, utc_now
from services.credentials.refresh_schedule import is_fresh
from services.credentials.shared_loads import SharedLoads
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)


class _GrantContext(NamedTuple):
    """The project and generation that were stored with a grant when it was last read."""

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
        """Use the grant in `store`, or `personal_key` while there is no usable grant."""
        self._stored = SharedLoads(store.load)
        self._sealer = sealer
        self._refresher = refresher
        self._personal_key = personal_key
        self._now = now
        # Used while PostgreSQL is down, so that replies still name the same project.
        self._contexts: dict[str, _GrantContext] = {}

    async def resolve(self, request: TokenRequest) -> TokenReply:
        """Resolve a bearer. A failed refresh is not raised; the reply falls back.

        Raises:
            Unavailable: PostgreSQL is not available, and no refreshed grant is in memory.
        """
        provider = request.provider_id
        try:
            stored = await self._stored.load(provider)
        except Unavailable:
            pending = self._refresher.pending(provider)
            if pending is None or not self._is_usable(pending, request):
                raise
            context = self._contexts.get(provider, _GrantContext())
            return _with_context(_oauth(pending), pending.payload, context)
        # Not read again after a refresh: another grant may have been connected meanwhile.
        context = _GrantContext(self._project(stored.rows), stored.generation)
        self._contexts[provider] = context
        payload = self._sealer.grant(stored.rows).payload
        if payload is None:
            reply = self._fallback(stored.version)
        else:
            reply = await self._bearer(request, Grant(payload, stored.version))
        return _with_context(reply, payload, context)

    async def _bearer(self, request: TokenRequest, stored: Grant) -> TokenReply:
        grant: Grant | None = stored
        if (
            not is_fresh(stored.payload, self._now())
            or request.rejected_sha256 == token_digest(stored.payload.access_token)
            or self._refresher.pending(request.provider_id)
        ):
            grant = await self._refresh(request, stored)
        if grant is None:
            return self._fallback(stored.version)
        if self._is_usable(grant, request):
            return _oauth(grant)
        reason = await self._pending_refresh_reason(request.provider_id, grant.payload)
        return self._fallback(grant.version, reason)

    async def _pending_refresh_reason(self, provider: str, grant: OAuthPayload) -> str | None:
        """Return why a grant has no usable token at the moment; None when it will get none."""
        try:
            state = (await self._stored.load(provider)).refresh
        except Unavailable as error:
            metrics.FAILURES.labels("tokens", error.code).inc()
            log.debug("the refresh state of a grant cannot be read", reason=str(error))
            return str(error)
        if state is not None and state.needs_reconnect:
            return None
        if state is not None and state.reason is not None:
            return state.reason
        # The refresh reported no error. A token that has not expired is unusable only because
        # PostHog rejected it, although it was refreshed.
        return "the refresh is under way" if grant.expires_at <= self._now() else None

    def _project(self, rows: Rows) -> ProvisionedProject | None:
        derived = self._sealer.derived(rows).payload
        if derived is None or not derived.project_id or not derived.private_host:
            return None
        return ProvisionedProject(derived.project_id, derived.private_host)

    async def _refresh(self, request: TokenRequest, grant: Grant) -> Grant | None:
        provider = request.provider_id
        try:
            return await self._refresher.refresh(provider, request.rejected_sha256)
        except Unavailable as error:
            metrics.FAILURES.labels("tokens", error.code).inc()
            log.warning("the grant could not be refreshed", provider=provider, reason=str(error))
            return grant

    def _is_usable(self, grant: Grant, request: TokenRequest) -> bool:
        payload = grant.payload
        is_rejected = request.rejected_sha256 == token_digest(payload.access_token)
        return payload.expires_at > self._now() and not is_rejected

    def _fallback(self, version: int, not_refreshed: str | None = None) -> TokenReply:
        return TokenReply(
            source="personal_key" if self._personal_key else "none",
            version=version,
            token=self._personal_key,
            not_refreshed=not_refreshed,
        )


def _with_context(
    reply: TokenReply, grant: OAuthPayload | None, context: _GrantContext
) -> TokenReply:
    """Add the grant's projects and generation to a reply, also if it has the personal API key."""
    return msgspec.structs.replace(
        reply,
        scoped_teams=grant.scoped_teams if grant else [],
        provisioned_project=context.project,
        generation=context.generation,
    )


def _oauth(grant: Grant) -> TokenReply:
    return TokenReply(
        source="oauth",
        version=grant.version,
        token=grant.payload.access_token,
        expires_at=grant.payload.expires_at,
    )
