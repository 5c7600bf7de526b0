"""Authorization codes and tokens: issued, exchanged, rotated, revoked.

Follows posthog/api/oauth/views.py (`OAuthValidator`) and, below it, `OAuth2Validator` of
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
    """What a grant gives access to."""

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
    """What the client wants to find in the id token."""


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
    """The access token issued with it; revoked when this token is rotated."""

    revoked: float | None = None
    successor: str | None = None
    """The refresh token that replaced it."""


class TokenAnswer(msgspec.Struct, frozen=True):
    """The answer to a successful token request."""

    access_token: str
    expires_in: int
    token_type: str
    scope: str
    refresh_token: str
    scoped_teams: tuple[int, ...]
    scoped_organizations: tuple[str, ...]
    id_token: str | msgspec.UnsetType = msgspec.UNSET
    """Only with the scope `openid`."""


class Counts(msgspec.Struct):
    """Counters; they contain no tokens."""

    codes: int = 0
    refreshes: int = 0
    replays: int = 0
    """Rotated refresh tokens used again within the grace period."""

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
        """Issue a code, valid once and for five minutes."""
        code = secrets.token_urlsafe(30)
        expires = self._clock.now() + CODE_SECONDS
        self._codes[code] = Code(reach, redirect_uri, challenge, expires, nonce)
        self.counts.codes += 1
        return code

    def exchange(
        self, code: str, client: Client, redirect_uri: str | None, verifier: str | None
    ) -> TokenAnswer:
        """Exchange a code for tokens; only a success consumes the code, as in oauthlib.

        A code that is used again is refused, and what it gave the first time stays valid: neither
        PostHog nor django-oauth-toolkit revokes it.

        Raises:
            OAuthError: `invalid_grant`; or `invalid_request` if the redirect URI differs, or there
                is no verifier.
        """
        found = self._codes.get(code)
        if (
            found is None
            or found.expires <= self._clock.now()
            or found.reach.client_id != client.client_id
        ):
            raise self._refused(invalid_grant())
        if verifier is None:
            raise self._refused(OAuthError("invalid_request", "Code verifier required."))
        if not matches_challenge(found.challenge, verifier):
            raise self._refused(invalid_grant())
        if (uri := redirect_uri or client.default_redirect_uri) is None:
            raise self._refused(OAuthError("invalid_request", "Missing redirect URI."))
        if found.redirect_uri != uri:
            raise self._refused(OAuthError("invalid_request", "Mismatching redirect URI."))
        del self._codes[code]
        return self._mint(found.reach, secrets.token_hex(16), found.nonce)

    def refresh(self, token: str, client_id: str, scope: str = "") -> TokenAnswer:
        """Exchange a refresh token for new tokens, with some of its scopes or with all of them.

        Scopes that were given up do not come back. A rotated token that is used again gets its
        successor within the grace period; after that it revokes the whole family.

        Raises:
            OAuthError: `invalid_grant`, or `invalid_scope` for more than was granted.
        """
        found, now = self._refresh.get(token), self._clock.now()
        if found is None or found.reach.client_id != client_id or found.expires <= now:
            raise self._refused(invalid_grant())
        if found.revoked is not None and found.revoked <= now - self._grace_seconds:
            self._revoke_family(found.family)
            raise self._refused(invalid_grant())
        reach = self._narrowed(found, scope)
        if found.revoked is None:
            self.counts.refreshes += 1
            return self._rotated(found, reach) if self._rotate else self._renewed(found, reach)
        self.counts.replays += 1
        return self._replayed(found, reach)

    def revoke(self, token: str, client_id: str) -> None:
        """Revoke a client's token at once, and with a refresh token its access tokens (RFC 7009).

        Nothing happens to another client's. In django-oauth-toolkit a revoked refresh token stays
        valid for the grace period.
        """
        presented = self._refresh.get(token) or self._access.get(token)
        if presented is None or presented.reach.client_id != client_id:
            return
        self._access.pop(token, None)
        if self._refresh.pop(token, None) is not None:
            # Without rotation a refresh token has several: PostHog ends the whole session.
            self._end_access(presented.family)

    def refresh_token(self, token: str) -> Refresh | None:
        """Return a refresh token that can be used; None if it is unknown or revoked."""
        found = self._refresh.get(token)
        return found if found is not None and found.revoked is None else None

    def access(self, token: str) -> Access | None:
        """Return an access token, expired or not; None if it is unknown or revoked."""
        return self._access.get(token)

    def _mint(self, reach: Reach, family: str, nonce: str | None = None) -> TokenAnswer:
        access = self._new_access(reach, family)
        refresh = f"phr_{secrets.token_urlsafe(32)}"
        expires = self._clock.now() + REFRESH_SECONDS
        self._refresh[refresh] = Refresh(refresh, reach, family, expires, access)
        return self._answer(reach, access, refresh, nonce)

    def _new_access(self, reach: Reach, family: str) -> str:
        token = f"pha_{secrets.token_urlsafe(32)}"
        self._access[token] = Access(token, reach, family, self._clock.now() + self._token_seconds)
        return token

    def _narrowed(self, found: Refresh, scope: str) -> Reach:
        successor = self._refresh.get(found.successor or "")
        reach = successor.reach if successor is not None else found.reach
        if not scope:
            return reach
        wanted = tuple(scope.split())
        if not set(wanted) <= set(reach.scopes):
            raise self._refused(OAuthError("invalid_scope"))
        return msgspec.structs.replace(reach, scopes=wanted)

    def _rotated(self, found: Refresh, reach: Reach) -> TokenAnswer:
        self._end(found)
        answer = self._mint(reach, found.family)
        found.successor = answer.refresh_token
        return answer

    def _renewed(self, found: Refresh, reach: Reach) -> TokenAnswer:
        # Without rotation, earlier access tokens stay valid until they expire.
        found.reach = reach
        found.access = self._new_access(reach, found.family)
        return self._answer(reach, found.access, found.token)

    def _replayed(self, found: Refresh, reach: Reach) -> TokenAnswer:
        successor = self._refresh.get(found.successor or "")
        if successor is not None and successor.access in self._access:
            return self._answer(successor.reach, successor.access, successor.token)
        # The successor was revoked or rotated: issue another pair in the same family.
        return self._mint(reach, found.family)

    def _refused(self, error: OAuthError) -> OAuthError:
        self.counts.refused += 1
        return error

    def _end(self, found: Refresh) -> None:
        found.revoked = self._clock.now()
        self._access.pop(found.access, None)

    def _revoke_family(self, family: str) -> None:
        self.counts.families_revoked += 1
        for refresh in self._refresh.values():
            if refresh.family == family and refresh.revoked is None:
                refresh.revoked = self._clock.now()
        self._end_access(family)

    def _end_access(self, family: str) -> None:
        for token in [one.token for one in self._access.values() if one.family == family]:
            del self._access[token]

    def _answer(
        self, reach: Reach, access: str, refresh: str, nonce: str | None = None
    ) -> TokenAnswer:
        return TokenAnswer(
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
