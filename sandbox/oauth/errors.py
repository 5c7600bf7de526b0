"""Errors of the OAuth server in the format of RFC 6749 5.2, as from django-oauth-toolkit."""

from __future__ import annotations

import msgspec


class OAuthErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of an error response. An empty description is omitted, as by oauthlib."""

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
        """The header `WWW-Authenticate` of a 401 (RFC 6750 3), as from oauthlib."""
        text = self.body.error_description
        description = f', error_description="{text}"' if text else ""
        return f'Bearer error="{self.body.error}"{description}'


class RedirectedError(OAuthError):
    """The OAuth server refuses a request, and reports it to the client's redirect URI."""

    def __init__(self, redirect_uri: str, error: str, description: str = "") -> None:
        super().__init__(error, description)
        self.redirect_uri = redirect_uri


class Unauthenticated(Exception):
    """An unknown client requests introspection. The response is 403 without a body."""


def invalid_client() -> OAuthError:
    """The client is unknown, or sends a secret, which a public client does not have."""
    return OAuthError("invalid_client", status=401)


def invalid_grant(description: str = "") -> OAuthError:
    """The code or refresh token is unknown, used, expired, or another client's."""
    return OAuthError("invalid_grant", description)
