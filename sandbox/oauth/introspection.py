"""Token introspection (RFC 7662; `OAuthIntrospectTokenView` in posthog/api/oauth/views.py)."""

from __future__ import annotations

import msgspec

from sandbox.clock import Clock
from sandbox.oauth.documents import Documents
from sandbox.oauth.errors import Unauthenticated
from sandbox.oauth.grants import Access, Grants, Reach


class Inactive(msgspec.Struct, frozen=True):
    """The token is unknown, revoked, expired, or another client's."""

    active: bool = False


class Active(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token that can be used. A refresh token has neither scopes nor an expiry here."""

    active: bool
    token_type: str
    scope: str | None = None
    is_impersonated: bool | None = None
    scoped_teams: tuple[int, ...]
    scoped_organizations: tuple[str, ...]
    exp: int | None = None
    """Seconds since 1970."""
    client_id: str
    client_name: str


class Introspection:
    """Describes tokens to their own client."""

    def __init__(self, clock: Clock, documents: Documents, grants: Grants) -> None:
        self._clock = clock
        self._documents = documents
        self._grants = grants

    def describe(self, bearer: str, token: str) -> Active | Inactive:
        """Describe `token` to the caller with the bearer token `bearer`.

        A bearer token may always introspect itself, even if it has expired. Otherwise it needs the
        scope `introspection`, and may only introspect tokens of its own client.

        Raises:
            Unauthenticated: the bearer token does not permit introspection.
        """
        caller = self._grants.access(bearer)
        if caller is None or not (bearer == token or self._may_introspect(caller)):
            raise Unauthenticated
        if (access := self._grants.access(token)) is not None:
            if not self._is_valid(access) or access.reach.client_id != caller.reach.client_id:
                return Inactive()
            return self._active(
                access.reach,
                token_type="access_token",  # noqa: S106
                scope=" ".join(access.reach.scopes),
                is_impersonated=False,
                exp=int(access.expires),
            )
        refresh = self._grants.refresh_token(token)
        if refresh is None or refresh.reach.client_id != caller.reach.client_id:
            return Inactive()
        return self._active(refresh.reach, token_type="refresh_token")  # noqa: S106

    def _may_introspect(self, caller: Access) -> bool:
        return self._is_valid(caller) and bool({"introspection", "*"} & set(caller.reach.scopes))

    def _is_valid(self, access: Access) -> bool:
        return access.expires > self._clock.now()

    def _active(
        self,
        reach: Reach,
        *,
        token_type: str,
        scope: str | None = None,
        is_impersonated: bool | None = None,
        exp: int | None = None,
    ) -> Active:
        client = self._documents.cached(reach.client_id)
        return Active(
            active=True,
            token_type=token_type,
            scope=scope,
            is_impersonated=is_impersonated,
            scoped_teams=reach.teams,
            scoped_organizations=reach.organizations,
            exp=exp,
            client_id=reach.client_id,
            client_name=client.name if client else "",
        )
