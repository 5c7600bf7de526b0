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


class RedirectedError(OAuthError):
    """The client is told of the refusal through its redirect URI."""


def invalid_grant(description: str = "") -> OAuthError:
    """The code or refresh token is unknown, used, expired, or another client's."""
    return OAuthError("invalid_grant", description)
