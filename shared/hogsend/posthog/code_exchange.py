"""Request and response of the exchange of an authorization code (RFC 6749, 4.1.3 and 5)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec

from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.scopes import SCOPES
from hogsend.posthog.token_lifetime import token_lifetime

_ERROR_CODE = re.compile(r"(?!ph[a-z]_)[a-z_]{1,40}")
"""Matches OAuth's registered error codes, but neither PostHog's tokens nor random text."""


FORM_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
}
"""Headers of every request to a token endpoint."""


class UnusableResponse(Exception):
    """A successful response without usable tokens. The message completes `<endpoint> answered`."""


class Tokens(msgspec.Struct, frozen=True):
    """A successful response to an exchange. Its `repr` hides the tokens."""

    access_token: str = ""
    refresh_token: str = ""
    expires_in: msgspec.Raw = msgspec.Raw(b"0")
    """Lifetime of the access token in seconds. If it is missing, 0, which makes `credentials`
    refresh the token before its first use."""
    scope: str | None = None
    scoped_teams: list[int] | None = None
    scoped_organizations: list[str] | None = None

    def __repr__(self) -> str:
        return "Tokens(...)"

    @property
    def lifetime(self) -> timedelta:
        """Lifetime of the access token."""
        return token_lifetime(self.expires_in)

    @property
    def scopes(self) -> list[str]:
        """The granted scopes; a response without `scope` means all requested (RFC 6749, 5.1)."""
        return list(SCOPES) if self.scope is None else self.scope.split()


def code_form(code: str, verifier: str, *, redirect_uri: str, client_id: str) -> dict[str, str]:
    """Build the form fields of the request that exchanges a code."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": verifier,
    }


def read_tokens(content: bytes) -> Tokens:
    """Decode the body of a successful response.

    Raises:
        UnusableResponse: the body is malformed, or a token is missing.
    """
    try:
        tokens = msgspec.json.decode(content, type=Tokens, strict=False)
    except NOT_JSON:
        raise UnusableResponse("with a malformed document") from None
    for name in ("access_token", "refresh_token"):
        if not getattr(tokens, name):
            raise UnusableResponse(f"without {name}")
    return tokens


def refusal_code(content: bytes, *secrets: str) -> str | None:
    """The OAuth error code in the body of an error response, which is safe to log and show.

    None without one, and if it contains one of the `secrets` that were sent.
    """
    try:
        body: Any = msgspec.json.decode(content)
    except NOT_JSON:
        return None
    code = oauth_error_code(body.get("error")) if isinstance(body, dict) else None
    if code is None or any(secret and secret in code for secret in secrets):
        return None
    return code


def oauth_error_code(text: object) -> str | None:
    """`text`, if it is an OAuth error code (RFC 6749, 4.1.2.1 and 5.2); else None."""
    return text if isinstance(text, str) and _ERROR_CODE.fullmatch(text) else None
