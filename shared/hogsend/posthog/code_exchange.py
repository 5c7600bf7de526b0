"""What is sent to exchange an authorization code, and what is answered (RFC 6749, 4.1.3 and 5)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec

from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.scopes import SCOPES
from hogsend.posthog.token_lifetime import token_lifetime

_ERROR_CODE = re.compile(r"(?!ph[a-z]_)[a-z_]{1,40}")
"""Matches OAuth's registered errors, but neither PostHog's tokens nor random text."""


FORM_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
}
"""Headers of every request to a token endpoint."""


class UnusableAnswer(Exception):
    """A successful answer without the tokens; the message completes `<endpoint> answered`."""


class Tokens(msgspec.Struct, frozen=True):
    """The answer to an exchange. Its `repr` shows no token."""

    access_token: str = ""
    refresh_token: str = ""
    expires_in: msgspec.Raw = msgspec.Raw(b"0")
    """Seconds. 0 when missing: the server then refreshes before the first use."""
    scope: str | None = None
    scoped_teams: list[int] | None = None
    scoped_organizations: list[str] | None = None

    def __repr__(self) -> str:
        return "Tokens(...)"

    @property
    def lifetime(self) -> timedelta:
        """How long the access token lives."""
        return token_lifetime(self.expires_in)

    @property
    def scopes(self) -> list[str]:
        """What was granted; a server that does not say so granted what was asked for."""
        return list(SCOPES) if self.scope is None else self.scope.split()


def code_form(code: str, verifier: str, *, redirect_uri: str, client_id: str) -> dict[str, str]:
    """Build the form that exchanges a code."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": verifier,
    }


def read_tokens(content: bytes) -> Tokens:
    """Read the body of a successful answer.

    Raises:
        UnusableAnswer: it is malformed, or lacks a token.
    """
    try:
        tokens = msgspec.json.decode(content, type=Tokens, strict=False)
    except NOT_JSON:
        raise UnusableAnswer("with a malformed document") from None
    for name in ("access_token", "refresh_token"):
        if not getattr(tokens, name):
            raise UnusableAnswer(f"without {name}")
    return tokens


def refused_with(content: bytes, *secrets: str) -> str | None:
    """Read the error code of a refusal's body, which is logged and shown.

    None for anything that is not one, or that repeats one of the `secrets` that were sent.
    """
    try:
        body: Any = msgspec.json.decode(content)
    except NOT_JSON:
        return None
    code = readable_code(body.get("error")) if isinstance(body, dict) else None
    if code is None or any(secret and secret in code for secret in secrets):
        return None
    return code


def readable_code(text: object) -> str | None:
    """Return an OAuth `error` value (RFC 6749, 4.1.2.1 and 5.2); None for anything else."""
    return text if isinstance(text, str) and _ERROR_CODE.fullmatch(text) else None
