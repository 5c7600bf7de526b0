"""Errors of the OAuth server in the format of RFC 6749 5.2, as from django-oauth-toolkit."""

from __future__ import annotations

import msgspec


class OAuthErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """`error` is a code; an empty description is omitted, as by oauthlib."""

    error: str
    error_description: str = ""


class OAuthError(Exception):
    """The OAuth server refuses a request."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.status = status
        self.body = OAuthErrorBody(error, description)

    @property
    def challenge(self) -> str:
        """The `WWW-Authenticate` of a 401 (RFC 6750 3), as from oauthlib."""
        described = self.body.error_description
        rest = f', error_description="{described}"' if described else ""
        return f'Bearer error="{self.body.error}"{rest}'


class RedirectedError(OAuthError):
    """The client is told of the refusal through its redirect URI."""

    def __init__(self, redirect_uri: str, error: str, description: str = "") -> None:
        super().__init__(error, description)
        self.redirect_uri = redirect_uri


class Unauthenticated(Exception):
    """Introspection is asked for by an unknown client: 403 without a body."""


def invalid_client() -> OAuthError:
    """The client is unknown, or shows a secret, which a public one does not have."""
    return OAuthError("invalid_client", status=401)


def invalid_grant(description: str = "") -> OAuthError:
    """The code or refresh token is unknown, used, expired, or another client's."""
    return OAuthError("invalid_grant", description)
