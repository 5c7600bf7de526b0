"""Issues, exchanges, rotates and revokes authorization codes and tokens.

Follows posthog/api/oauth/views.py (`OAuthValidator`) and its base class `OAuth2Validator` of
django-oauth-toolkit: `_save_bearer_token`, `validate_refresh_token`, `RefreshToken.revoke`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

import msgspec

from sandbox.clock import Clock
from sandbox.oauth.documents import Client
from sandbox.oauth.errors import OAuthError, invalid_grant
from sandbox.oauth.id_tokens import IdTokens

CODE_SECONDS = 300
REFRESH_SECONDS = 30 * 86_400


class Reach(msgspec.Struct, frozen=True):
    """The scopes, projects and organizations that a grant gives a client access to."""

    client_id: str
    scopes: tuple[str, ...]
    teams: tuple[int, ...] = ()
    organizations: tuple[str, ...] = ()


class Code(msgspec.Struct, frozen=True):
    """An authorization code that has not been exchanged."""

    reach: Reach
    redirect_uri: str
    challenge: str
    expires: float
    nonce: str | None = None
    """Value that the id token has to contain for the client."""


class Access(msgspec.Struct, frozen=True):
    """An access token, valid until `expires`."""

    token: str
    reach: Reach
    family: str
    expires: float


class Refresh(msgspec.Struct):
    """A refresh token and its state."""

    token: str
    reach: Reach
    family: str
    expires: float
    access: str
    """The access token that was issued with this token, and is revoked when it is rotated."""

    revoked: float | None = None
    successor: str | None = None
    """The refresh token that replaced it."""


class TokenResponse(msgspec.Struct, frozen=True):
    """The response to a successful token request."""

    access_token: str
    expires_in: int
    token_type: str
    scope: str
    refresh_token: str
    scoped_teams: tuple[int, ...]
    scoped_organizations: tuple[str, ...]
    id_token: str | msgspec.UnsetType = msgspec.UNSET
    """Only set with the scope `openid`."""


class Counts(msgspec.Struct):
    """Counters; they contain no tokens."""

    codes: int = 0
    refreshes: int = 0
    replays: int = 0
    """Rotated refresh tokens that were used again within the grace period."""

    families_revoked: int = 0
    refused: int = 0


class Grants:
    """All codes and tokens of the authorization server."""

    def __init__(
        self,
        clock: Clock,
        id_tokens: IdTokens,
        *,
        token_seconds: int,
        grace_seconds: int,
        rotate: bool,
    ) -> None:
        self._clock = clock
        self._id_tokens = id_tokens
        self._token_seconds = token_seconds
        self._grace_seconds = grace_seconds
        self._rotate = rotate
        self._codes: dict[str, Code] = {}
        self._access: dict[str, Access] = {}
        self._refresh: dict[str, Refresh] = {}
        self.counts = Counts()

    def issue_code(
        self, reach: Reach, redirect_uri: str, challenge: str, nonce: str | None = None
    ) -> str:
        """Issue a code, which is valid once and for five minutes."""
        code = secrets.token_urlsafe(30)
        expires = self._clock.now() + CODE_SECONDS
        self._codes[code] = Code(reach, redirect_uri, challenge, expires, nonce)
        self.counts.codes += 1
        return code

    def exchange(
        self, code: str, client: Client, redirect_uri: str | None, verifier: str | None
    ) -> TokenResponse:
        """Exchange a code for tokens. Only a successful exchange consumes the code, as in oauthlib.

        A code that is used again is refused. The tokens of the first exchange stay valid: neither
        PostHog nor django-oauth-toolkit revokes them.

        Raises:
            OAuthError: `invalid_grant`; or `invalid_request` if the redirect URI differs, or the
                verifier is missing.
        """
        issued = self._codes.get(code)
        if (
            issued is None
            or issued.expires <= self._clock.now()
            or issued.reach.client_id != client.client_id
        ):
            raise self._refused(invalid_grant())
        if verifier is None:
            raise self._refused(OAuthError("invalid_request", "Code verifier required."))
        if not matches_challenge(issued.challenge, verifier):
            raise self._refused(invalid_grant())
        if (uri := redirect_uri or client.default_redirect_uri) is None:
            raise self._refused(OAuthError("invalid_request", "Missing redirect URI."))
        if issued.redirect_uri != uri:
            raise self._refused(OAuthError("invalid_request", "Mismatching redirect URI."))
        del self._codes[code]
        return self._mint(issued.reach, secrets.token_hex(16), issued.nonce)

    def refresh(self, token: str, client_id: str, scope: str = "") -> TokenResponse:
        """Exchange a refresh token for new tokens, with all of its scopes or with some.

        A later refresh cannot restore omitted scopes. Using a rotated token again returns its
        successor within the grace period, and revokes the whole family after it.

        Raises:
            OAuthError: `invalid_grant`, or `invalid_scope` for more scopes than were granted.
        """
        stored, now = self._refresh.get(token), self._clock.now()
        if stored is None or stored.reach.client_id != client_id or stored.expires <= now:
            raise self._refused(invalid_grant())
        if stored.revoked is not None and stored.revoked <= now - self._grace_seconds:
            self._revoke_family(stored.family)
            raise self._refused(invalid_grant())
        reach = self._narrowed(stored, scope)
        if stored.revoked is None:
            self.counts.refreshes += 1
            return self._rotated(stored, reach) if self._rotate else self._renewed(stored, reach)
        self.counts.replays += 1
        return self._replayed(stored, reach)

    def revoke(self, token: str, client_id: str) -> None:
        """Revoke a client's token at once, and with a refresh token its access tokens (RFC 7009).

        Tokens of other clients are not revoked. In django-oauth-toolkit a revoked refresh token
        stays valid for the grace period.
        """
        presented = self._refresh.get(token) or self._access.get(token)
        if presented is None or presented.reach.client_id != client_id:
            return
        self._access.pop(token, None)
        if self._refresh.pop(token, None) is not None:
            # Without rotation a refresh token has several access tokens. PostHog revokes them all.
            self._end_access(presented.family)

    def refresh_token(self, token: str) -> Refresh | None:
        """Return a refresh token that can be used; None if it is unknown or revoked."""
        stored = self._refresh.get(token)
        return stored if stored is not None and stored.revoked is None else None

    def access(self, token: str) -> Access | None:
        """Return an access token, expired or not; None if it is unknown or revoked."""
        return self._access.get(token)

    def _mint(self, reach: Reach, family: str, nonce: str | None = None) -> TokenResponse:
        access = self._new_access(reach, family)
        refresh = f"phr_{secrets.token_urlsafe(32)}"
        expires = self._clock.now() + REFRESH_SECONDS
        self._refresh[refresh] = Refresh(refresh, reach, family, expires, access)
        return self._response(reach, access, refresh, nonce)

    def _new_access(self, reach: Reach, family: str) -> str:
        token = f"pha_{secrets.token_urlsafe(32)}"
        self._access[token] = Access(token, reach, family, self._clock.now() + self._token_seconds)
        return token

    def _narrowed(self, refresh: Refresh, scope: str) -> Reach:
        successor = self._refresh.get(refresh.successor or "")
        reach = successor.reach if successor is not None else refresh.reach
        if not scope:
            return reach
        requested = tuple(scope.split())
        if not set(requested) <= set(reach.scopes):
            raise self._refused(OAuthError("invalid_scope"))
        return msgspec.structs.replace(reach, scopes=requested)

    def _rotated(self, refresh: Refresh, reach: Reach) -> TokenResponse:
        self._end(refresh)
        response = self._mint(reach, refresh.family)
        refresh.successor = response.refresh_token
        return response

    def _renewed(self, refresh: Refresh, reach: Reach) -> TokenResponse:
        # Without rotation, earlier access tokens stay valid until they expire.
        refresh.reach = reach
        refresh.access = self._new_access(reach, refresh.family)
        return self._response(reach, refresh.access, refresh.token)

    def _replayed(self, refresh: Refresh, reach: Reach) -> TokenResponse:
        successor = self._refresh.get(refresh.successor or "")
        if successor is not None and successor.access in self._access:
            return self._response(successor.reach, successor.access, successor.token)
        # The successor was revoked or rotated: issue another pair in the same family.
        return self._mint(reach, refresh.family)

    def _refused(self, error: OAuthError) -> OAuthError:
        self.counts.refused += 1
        return error

    def _end(self, refresh: Refresh) -> None:
        refresh.revoked = self._clock.now()
        self._access.pop(refresh.access, None)

    def _revoke_family(self, family: str) -> None:
        self.counts.families_revoked += 1
        for refresh in self._refresh.values():
            if refresh.family == family and refresh.revoked is None:
                refresh.revoked = self._clock.now()
        self._end_access(family)

    def _end_access(self, family: str) -> None:
        tokens = [access.token for access in self._access.values() if access.family == family]
        for token in tokens:
            del self._access[token]

    def _response(
        self, reach: Reach, access: str, refresh: str, nonce: str | None = None
    ) -> TokenResponse:
        return TokenResponse(
            access_token=access,
            expires_in=self._token_seconds,
            token_type="Bearer",  # noqa: S106
            scope=" ".join(reach.scopes),
            refresh_token=refresh,
            scoped_teams=reach.teams,
            scoped_organizations=reach.organizations,
            id_token=self._id_tokens.issue(reach.client_id, reach.scopes, access, nonce),
        )


def matches_challenge(challenge: str, verifier: str) -> bool:
    """Whether `verifier` matches an S256 `challenge` (RFC 7636 4.6)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    computed = base64.urlsafe_b64encode(digest).rstrip(b"=")
    return hmac.compare_digest(computed, challenge.encode())
