"""The cookie that binds an authorization to the browser that started it."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping

from services.gateway.sessions import set_cookie

PLAIN = "hogsend_connect"
SECURE = "__Host-hogsend_connect"
"""Name of the cookie when the console is reached over https."""

SECONDS = 10 * 60
TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def token_of(cookies: Mapping[str, str]) -> str | None:
    """Return the token in this browser's cookie, or None."""
    for name in (SECURE, PLAIN):
        value = cookies.get(name, "")
        if _TOKEN.fullmatch(value):
            return value
    return None


def new_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def cookie_with(token: str, *, secure: bool) -> str:
    """Return the value of a `Set-Cookie` header with this token."""
    return set_cookie(SECURE if secure else PLAIN, token, SECONDS)


def digest_of(token: str) -> str:
    """Return the digest by which the credentials service identifies the browser."""
    return hashlib.sha256(token.encode()).hexdigest()
