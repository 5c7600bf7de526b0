"""Sessions of the console: a cookie instead of a key, which a page could give away.

A cookie is a moment, sealed with the digest of the key it was given for. Several gateways know the
same key, so each of them can tell a cookie that another one gave, and none keeps anything. Without
its key a cookie is nothing: changing the key ends every session of it. Why so:
docs/adr/0021-sessions.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

SECONDS = 24 * 60 * 60
"""A session ends when it was not used for as long."""
RENEWED_AFTER = 10 * 60
"""Seconds after which a cookie that is used is replaced by a new one."""
AHEAD = 60
"""Seconds that another gateway's clock may be ahead."""

PLAIN = "hogsend_console"
SECURE = "__Host-hogsend_console"
"""Name of the cookie where the console is reached over https; RFC 6265bis, section 4.1.3.2."""

HEADER = "x-hogsend-console"
"""Header of the console's own requests. No form can send it, nor a page of another origin."""

_ORIGIN = b"hogsend console session\n"
_VERSION = "1"
_SECONDS_DIGITS = 12
_READING = frozenset({"GET", "HEAD"})


class Forged(Exception):
    """A request that carries a cookie and does not come from the console's own pages."""


def seal(digest: bytes, issued: int) -> str:
    """Give the cookie of a key that signed in, or was used, at a second of Unix time."""
    text = f"{_VERSION}.{issued}"
    mac = hmac.digest(digest, _ORIGIN + text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def issued_at(value: str, digest: bytes) -> int | None:
    """When a cookie was sealed with this key; None when it was not."""
    version, _, rest = value.partition(".")
    seconds, _, _mac = rest.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= _SECONDS_DIGITS):
        return None
    issued = int(seconds)
    sealed = seal(digest, issued).encode()
    is_ours = version == _VERSION and hmac.compare_digest(sealed, value.encode("utf-8", "replace"))
    return issued if is_ours else None


def is_over(issued: int, now: float) -> bool:
    """Whether a cookie of that moment has ended, or is of a future that no clock explains."""
    return not -AHEAD <= now - issued < SECONDS


def cookie_of(
    cookies: Mapping[str, str], host: str = "", public_url: str = ""
) -> tuple[str, str] | None:
    """Name and value of the session's cookie; None without one.

    At the host of a public URL with https, only the cookie for https counts: any page of a
    neighbouring name may set the other one, and so sign a visitor in to a session of its own.
    """
    public = urlsplit(public_url)
    is_https = public.scheme == "https" and public.netloc.lower() == host.lower()
    for name in (SECURE,) if is_https else (SECURE, PLAIN):
        if value := cookies.get(name):
            return name, value
    return None


def set_cookie(name: str, value: str, seconds: int = SECONDS) -> str:
    """Give the `Set-Cookie` header; no value and 0 seconds take it away."""
    secure = "; Secure" if name.startswith("__Host-") else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def check_origin(method: str, headers: Mapping[str, str], public_url: str) -> None:
    """Require that a request comes from the console's own pages.

    `SameSite` alone does not: other ports of this machine are the same site.

    Args:
        method: the request's method.
        headers: the request's headers, by their lower-case names.
        public_url: where the gateway is reached from outside, for proxies that change `Host`.

    Raises:
        Forged: it does not.
    """
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forged("a session is for the console's own pages")
    if method in _READING:
        return
    if headers.get(HEADER) != "1":
        raise Forged(f"a session may not change anything without the header {HEADER}: 1")
    public = urlsplit(public_url)
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        raise Forged("a session may not change anything for pages without an origin") from None
    ours = {headers.get("host", "").lower(), public.netloc.lower()}
    if origin.scheme not in {"http", "https"} or origin.netloc.lower() not in ours:
        raise Forged("a session may not change anything for pages of another origin")
    # An attacker on the path may write a page that comes without TLS from the same host.
    is_public = origin.netloc.lower() == public.netloc.lower()
    if is_public and (origin.scheme, public.scheme) == ("http", "https"):
        raise Forged(f"a session is for {public.scheme}://{public.netloc}")
