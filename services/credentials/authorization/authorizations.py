"""Consent in a browser of the console: begun, answered by PostHog, and exchanged for a grant.

The browser carries a state and a code, which are worth nothing without the verifier that is sealed
here. An authorization is taken once, within ten minutes, by the browser that began it.
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
    AuthorizationRefusal,
    BeginAuthorization,
    FinishAuthorization,
    RefusalCode,
)
from hogsend.contract.credentials import CredentialMeta, OAuthPayload
from hogsend.contract.errors import CannotUnseal, InvalidRequest
from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.code_exchange import Tokens, readable_code
from hogsend.posthog.oauth_discovery import DiscoveryFailed, NoClientDocuments, NoOAuthServer
from hogsend.posthog.pkce import PkceSession, authorize_url
from hogsend.posthog.scopes import SCOPES, missing
from services.credentials.authorization.server import AuthorizationServer, ExchangeRefused
from services.credentials.authorization.store import AuthorizationStore, WaitingAuthorization
from services.credentials.credential_service import CredentialService
from services.credentials.refresh import Clock
from services.credentials.sealing import Sealer

log = structlog.get_logger(__name__)

WAITS = timedelta(minutes=10)
"""How long PostHog's answer is waited for."""

AGAIN = "Connect again."
PERSONAL_KEY = (
    "Use a personal API key: in PostHog, under Settings, User, Personal API keys, create one for "
    "your project with person:read, project:read and hog_function:write, and set "
    "POSTHOG_PERSONAL_API_KEY for every service of this server. Then set up the destination here."
)
_ANSWERS: dict[str, tuple[RefusalCode, str, str]] = {
    "access_denied": (
        "consent_denied",
        "Access was declined in PostHog; nothing was connected.",
        "Connect again and approve it. You have to be a member of the project.",
    ),
    "invalid_scope": (
        "scopes_refused",
        "PostHog does not grant the scopes that Hogsend asks for; nothing was connected.",
        "Connect again and leave every scope ticked, as an administrator of the project.",
    ),
    "temporarily_unavailable": (
        "exchange_failed",
        "PostHog is not available at the moment.",
        "Connect again in a minute.",
    ),
}
_EXCHANGES: dict[str | None, str] = {
    "invalid_grant": "A code works once, and for five minutes only. Connect again.",
    "invalid_client": (
        "PostHog does not know this client. It has to reach the client document of this server at "
        "API_PUBLIC_URL. Connect again, or use `hogsend connect posthog`."
    ),
    "invalid_request": (
        "PostHog may know an earlier client document of this server for up to an hour. Connect "
        "again then, or use `hogsend connect posthog`."
    ),
}


class _Sealed(msgspec.Struct, frozen=True):
    """What is sealed of an authorization."""

    verifier: str
    browser_sha256: str
    token_endpoint: str
    client_id: str
    redirect_uri: str


class _Refused(Exception):
    """Nothing is connected, for a reason that is told."""

    def __init__(self, code: RefusalCode, detail: str, remediation: str) -> None:
        super().__init__(code)
        self.refusal = AuthorizationRefusal(code=code, detail=detail, remediation=remediation)


class Authorizations:
    """Authorizations of all browsers."""

    def __init__(
        self,
        store: AuthorizationStore,
        sealer: Sealer,
        server: AuthorizationServer,
        credentials: CredentialService,
        now: Clock,
    ) -> None:
        """Work with these.

        Args:
            store: keeps what waits.
            sealer: seals it.
            server: finds PostHog's OAuth server, and exchanges codes.
            credentials: stores the grant, as for the command line.
            now: the clock.
        """
        self._store = store
        self._sealer = sealer
        self._server = server
        self._credentials = credentials
        self._now = now

    async def begin(self, wanted: BeginAuthorization) -> AuthorizationBegun:
        """Prepare the consent page.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        host = wanted.private_host
        try:
            endpoints = await self._server.discover(host)
        except NoOAuthServer as error:
            return _not_begun("oauth_unsupported", f"{host} has no OAuth server ({error}).")
        except NoClientDocuments as error:
            return _not_begun("oauth_unsupported", f"Connecting needs a newer PostHog: {error}.")
        except DiscoveryFailed as error:
            return _not_begun("discovery_failed", f"The OAuth server was not found: {error}.")
        session = PkceSession()
        sealed = _Sealed(
            verifier=session.verifier,
            browser_sha256=wanted.browser_sha256,
            token_endpoint=endpoints.token_endpoint,
            client_id=wanted.client_id,
            redirect_uri=wanted.redirect_uri,
        )
        now = self._now()
        waiting = WaitingAuthorization(self._sealer.seal(msgspec.json.encode(sealed)), now + WAITS)
        await self._store.remember(_digest(session.state), wanted.provider_id, waiting, now)
        url = authorize_url(
            endpoints.authorization_endpoint,
            client_id=wanted.client_id,
            redirect_uri=wanted.redirect_uri,
            session=session,
        )
        return AuthorizationBegun(authorize_url=url, expires_at=waiting.expires_at)

    async def finish(self, answer: FinishAuthorization) -> AuthorizationFinished:
        """Take the authorization, exchange its code, and store the grant.

        Whatever comes of it, its state counts no more.

        Raises:
            Unavailable: PostgreSQL or NATS is not available; with the latter the grant is stored.
        """
        try:
            begun = await self._taken(answer)
            grant = await self._granted(answer, begun)
            meta = await self._stored(answer.provider_id, grant)
        except _Refused as refused:
            log.info("connecting in the browser failed", reason=refused.refusal.code)
            return AuthorizationFinished(refusal=refused.refusal)
        return AuthorizationFinished(credential=meta)

    async def _taken(self, answer: FinishAuthorization) -> _Sealed:
        waiting = await self._store.take(_digest(answer.state), answer.provider_id)
        if waiting is None or waiting.expires_at <= self._now():
            raise _expired()
        try:
            begun = msgspec.json.decode(self._sealer.unseal(waiting.payload), type=_Sealed)
        except (CannotUnseal, *NOT_JSON):
            # Sealed with a secret that is gone, or by another version.
            raise _expired() from None
        if not hmac.compare_digest(begun.browser_sha256, answer.browser_sha256):
            raise _Refused(
                "state_mismatch",
                "This answer belongs to a connection that was begun in another browser, or before "
                "you signed out; nothing was connected.",
                AGAIN,
            )
        return begun

    async def _granted(self, answer: FinishAuthorization, begun: _Sealed) -> OAuthPayload:
        if answer.error is not None:
            raise _declined(answer.error)
        if not answer.code:
            raise _Refused("exchange_failed", "PostHog's answer carried no code.", AGAIN)
        try:
            tokens = await self._server.tokens(
                answer.code,
                begun.verifier,
                token_endpoint=begun.token_endpoint,
                redirect_uri=begun.redirect_uri,
                client_id=begun.client_id,
            )
        except ExchangeRefused as error:
            remediation = _EXCHANGES.get(error.code, AGAIN)
            raise _Refused(
                "exchange_failed", f"{error}; nothing was stored.", remediation
            ) from None
        if len(missing(tokens.scopes)) == len(SCOPES):
            # Every request with it would be refused; stored, it would replace one that works.
            raise _Refused(
                "scopes_refused",
                "PostHog granted none of the scopes that Hogsend asks for; nothing was stored.",
                _ANSWERS["invalid_scope"][2],
            )
        return self._payload(tokens, begun)

    async def _stored(self, provider: str, grant: OAuthPayload) -> CredentialMeta:
        try:
            return await self._credentials.put_oauth(provider, grant)
        except InvalidRequest as error:
            detail = f"What PostHog granted cannot be used, and was not stored: {error}."
            raise _Refused("exchange_failed", detail, AGAIN) from None

    def _payload(self, tokens: Tokens, begun: _Sealed) -> OAuthPayload:
        return OAuthPayload(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=self._now() + tokens.lifetime,
            token_endpoint=begun.token_endpoint,
            client_id=begun.client_id,
            scopes=tokens.scopes,
            scoped_teams=tokens.scoped_teams or [],
            scoped_organizations=tokens.scoped_organizations or [],
        )


def _not_begun(code: RefusalCode, detail: str) -> AuthorizationBegun:
    remediation = (
        PERSONAL_KEY
        if code == "oauth_unsupported"
        else "POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) has to be PostHog's app host, and the "
        "credentials service has to reach it. `hogsend connect posthog` asks from your own machine."
    )
    refusal = AuthorizationRefusal(code=code, detail=detail, remediation=remediation)
    return AuthorizationBegun(refusal=refusal)


def _declined(error: str) -> _Refused:
    code = readable_code(error)
    return _Refused(
        *_ANSWERS.get(
            code or "",
            (
                "exchange_failed",
                f"PostHog did not authorize: {code or 'no readable error'}.",
                AGAIN,
            ),
        )
    )


def _expired() -> _Refused:
    return _Refused(
        "authorization_expired",
        "This answer was used before, or came more than ten minutes after connecting began; "
        "nothing was connected.",
        AGAIN,
    )


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
