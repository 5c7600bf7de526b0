"""Refusals of the OAuth server, in the shape of RFC 6749 5.2 as django-oauth-toolkit gives them."""

from __future__ import annotations

import msgspec


class OAuthErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """`error` is a code; a reason without words is left out, as oauthlib leaves it out."""

    error: str
    error_description: str = ""


class OAuthError(Exception):
    """A request the OAuth server refuses."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.status = status
        self.body = OAuthErrorBody(error, description)


class RedirectedError(OAuthError):
    """A refusal the client is told through its redirect URI."""


def invalid_grant(description: str = "") -> OAuthError:
    """A code or refresh token that is unknown, used, expired or somebody else's."""
    return OAuthError("invalid_grant", description)
