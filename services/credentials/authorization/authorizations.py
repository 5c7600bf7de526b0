"""The OAuth authorization code flow with PKCE, for a browser that uses the console.

The browser carries the state and the code, which are worthless without the PKCE verifier. The
verifier is stored sealed in PostgreSQL. An authorization can be finished once, within ten minutes,
and only by the browser that started it.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta

import msgspec
import structlog

from hogsend.contract.authorizations import (
    AuthorizationBegun,
    AuthorizationFinished,
    BeginAuthorization,
    FinishAuthorization,
)
from hogsend.contract.credentials import CredentialMeta, OAuthPayload
from hogsend.contract.errors import CannotUnseal, InvalidRequest
from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.code_exchange import Tokens
from hogsend.posthog.oauth_discovery import DiscoveryFailed, NoClientDocuments, NoOAuthServer
from hogsend.posthog.pkce import PkceSession, authorize_url
from hogsend.posthog.scopes import SCOPES, missing
from services.credentials.authorization.refusals import (
    ALL_SCOPES,
    CONNECT_AGAIN,
    Refused,
    begin_refused,
    declined,
    exchange_remedy,
    expired,
)
from services.credentials.authorization.server import AuthorizationServer, ExchangeRefused
from services.credentials.authorization.store import AuthorizationStore, PendingAuthorization
from services.credentials.credential_service import CredentialService
from services.credentials.refresh import Clock
from services.credentials.sealing import Sealer

log = structlog.get_logger(__name__)

LIFETIME = timedelta(minutes=10)
"""How long an authorization can be finished after its start."""


class _Authorization(msgspec.Struct, frozen=True):
    """The fields of an authorization that are stored sealed."""

    verifier: str
    browser_sha256: str
    token_endpoint: str
    client_id: str
    redirect_uri: str

    def __repr__(self) -> str:
        """Hide the verifier."""
        return f"_Authorization(token_endpoint={self.token_endpoint!r})"


class Authorizations:
    """Starts and finishes the authorizations of all browsers."""

    def __init__(
        self,
        store: AuthorizationStore,
        sealer: Sealer,
        server: AuthorizationServer,
        credentials: CredentialService,
        now: Clock,
    ) -> None:
        """Use these parts.

        Args:
            store: stores authorizations until they are finished.
            sealer: seals the stored authorizations.
            server: discovers PostHog's OAuth server, and exchanges codes.
            credentials: stores the grant, as for `hogsend connect`.
            now: the clock.
        """
        self._store = store
        self._sealer = sealer
        self._server = server
        self._credentials = credentials
        self._now = now

    async def begin(self, request: BeginAuthorization) -> AuthorizationBegun:
        """Start an authorization, and return the URL of PostHog's consent page.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        host = request.private_host
        try:
            endpoints = await self._server.discover(host)
        except NoOAuthServer as error:
            return begin_refused("oauth_unsupported", f"{host} has no OAuth server ({error}).")
        except NoClientDocuments as error:
            detail = f"Connecting needs a newer PostHog: {error}."
            return begin_refused("oauth_unsupported", detail)
        except DiscoveryFailed as error:
            return begin_refused("discovery_failed", f"The OAuth server was not found: {error}.")
        session = PkceSession()
        authorization = _Authorization(
            verifier=session.verifier,
            browser_sha256=request.browser_sha256,
            token_endpoint=endpoints.token_endpoint,
            client_id=request.client_id,
            redirect_uri=request.redirect_uri,
        )
        now = self._now()
        sealed = self._sealer.seal(msgspec.json.encode(authorization))
        pending = PendingAuthorization(sealed, now + LIFETIME)
        await self._store.add(_digest(session.state), request.provider_id, pending, now)
        url = authorize_url(
            endpoints.authorization_endpoint,
            client_id=request.client_id,
            redirect_uri=request.redirect_uri,
            session=session,
        )
        return AuthorizationBegun(authorize_url=url, expires_at=pending.expires_at)

    async def finish(self, callback: FinishAuthorization) -> AuthorizationFinished:
        """Exchange the authorization code of a callback for a grant, and store the grant.

        The state of the callback can be used once, whether or not this succeeds.

        Raises:
            Unavailable: PostgreSQL is not available; or NATS is not, but the grant is stored.
        """
        try:
            authorization = await self._take(callback)
            grant = await self._exchange(callback, authorization)
            meta = await self._store_grant(callback.provider_id, grant)
        except Refused as refused:
            log.info("connecting in the browser failed", reason=refused.refusal.code)
            return AuthorizationFinished(refusal=refused.refusal)
        return AuthorizationFinished(credential=meta)

    async def _take(self, callback: FinishAuthorization) -> _Authorization:
        pending = await self._store.take(_digest(callback.state), callback.provider_id)
        if pending is None or pending.expires_at <= self._now():
            raise expired()
        try:
            authorization = msgspec.json.decode(
                self._sealer.unseal(pending.payload), type=_Authorization
            )
        except (CannotUnseal, *NOT_JSON):
            # The secret is no longer configured, or another version wrote the authorization.
            raise expired() from None
        if not hmac.compare_digest(authorization.browser_sha256, callback.browser_sha256):
            raise Refused(
                "state_mismatch",
                "This connection was started in another browser, or before you signed out; nothing "
                "was connected.",
                CONNECT_AGAIN,
            )
        return authorization

    async def _exchange(
        self, callback: FinishAuthorization, authorization: _Authorization
    ) -> OAuthPayload:
        if callback.error is not None:
            raise declined(callback.error)
        if not callback.code:
            raise Refused("exchange_failed", "PostHog's redirect had no code.", CONNECT_AGAIN)
        try:
            tokens = await self._server.tokens(
                callback.code,
                authorization.verifier,
                token_endpoint=authorization.token_endpoint,
                redirect_uri=authorization.redirect_uri,
                client_id=authorization.client_id,
            )
        except ExchangeRefused as error:
            remediation = exchange_remedy(error.code)
            raise Refused("exchange_failed", f"{error}; nothing was stored.", remediation) from None
        if len(missing(tokens.scopes)) == len(SCOPES):
            # PostHog would refuse every request with this grant. It must not replace a working one.
            raise Refused(
                "scopes_refused",
                "PostHog granted none of the scopes that Hogsend asks for; nothing was stored.",
                ALL_SCOPES,
            )
        return self._payload(tokens, authorization)

    async def _store_grant(self, provider: str, grant: OAuthPayload) -> CredentialMeta:
        try:
            return await self._credentials.put_oauth(provider, grant)
        except InvalidRequest as error:
            detail = f"What PostHog granted cannot be used, and was not stored: {error}."
            raise Refused("exchange_failed", detail, CONNECT_AGAIN) from None

    def _payload(self, tokens: Tokens, authorization: _Authorization) -> OAuthPayload:
        return OAuthPayload(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=self._now() + tokens.lifetime,
            token_endpoint=authorization.token_endpoint,
            client_id=authorization.client_id,
            scopes=tokens.scopes,
            scoped_teams=tokens.scoped_teams or [],
            scoped_organizations=tokens.scoped_organizations or [],
        )


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
