"""The cookie that marks the browser in which connecting began: no other may finish it."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping

from services.gateway.sessions import set_cookie

PLAIN = "hogsend_connect"
SECURE = "__Host-hogsend_connect"
"""Name of the cookie where the console is reached over https."""

SECONDS = 10 * 60
MARK_BYTES = 32
_MARK = re.compile(r"[A-Za-z0-9_-]{43}")


def mark_of(cookies: Mapping[str, str]) -> str | None:
    """What marks this browser as one that began to connect; None without a mark of ours."""
    for name in (SECURE, PLAIN):
        value = cookies.get(name, "")
        if _MARK.fullmatch(value):
            return value
    return None


def new_mark() -> str:
    """Make one."""
    return secrets.token_urlsafe(MARK_BYTES)


def cookie_with(mark: str, *, secure: bool) -> str:
    """Give the `Set-Cookie` header that marks a browser."""
    return set_cookie(SECURE if secure else PLAIN, mark, SECONDS)


def digest_of(mark: str) -> str:
    """Give what the credentials service knows a browser by."""
    return hashlib.sha256(mark.encode()).hexdigest()
