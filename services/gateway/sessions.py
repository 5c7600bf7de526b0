"""Sessions of the console: a cookie in place of the API key, which scripts of a page cannot read.

A cookie contains the time at which it was issued, authenticated with the digest of the API key that
signed in. Gateways with the same key therefore accept each other's cookies, and none stores
sessions. Changing the key ends all its sessions. The reasons are in docs/adr/0021-sessions.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

SECONDS = 24 * 60 * 60
"""Seconds without a request after which a session expires."""
RENEWED_AFTER = 10 * 60
"""Age in seconds at which a cookie is renewed by the next request."""
AHEAD = 60
"""Seconds by which another gateway's clock may be ahead of this one."""

PLAIN = "hogsend_console"
SECURE = "__Host-hogsend_console"
"""Name of the cookie when the console is reached over https (RFC 6265bis, section 4.1.3.2)."""

HEADER = "x-hogsend-console"
"""Header of the console's own requests. Neither forms nor pages of other origins can send it."""

_ORIGIN = b"hogsend console session\n"
_VERSION = "1"
_SECONDS_DIGITS = 12
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Forged(Exception):
    """A request has a session cookie, but was not sent by the console's own pages."""


def seal(digest: bytes, issued: int) -> str:
    """Return a cookie for the key with this digest, issued at a Unix time in seconds."""
    text = f"{_VERSION}.{issued}"
    mac = hmac.digest(digest, _ORIGIN + text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def issued_at(value: str, digest: bytes) -> int | None:
    """Return when a cookie was issued for the key with this digest, or None if it was not."""
    _version, _, after_version = value.partition(".")
    seconds, _, _mac = after_version.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= _SECONDS_DIGITS):
        return None
    issued = int(seconds)
    # The cookie with this time is the whole text, so the version is compared as well.
    sealed = seal(digest, issued).encode()
    is_valid = hmac.compare_digest(sealed, value.encode("utf-8", "replace"))
    return issued if is_valid else None


def is_expired(issued: int, now: float) -> bool:
    """Whether a cookie issued then has expired, or is further in the future than `AHEAD`."""
    return not -AHEAD <= now - issued < SECONDS


def cookie_of(
    cookies: Mapping[str, str], host: str = "", public_url: str = ""
) -> tuple[str, str] | None:
    """Return the name and value of the session cookie, or None.

    If the request's host is that of an https public URL, only the `__Host-` cookie counts. A page
    of a sibling domain could set the other one, and sign a visitor in to the attacker's session.
    """
    public = urlsplit(public_url)
    is_https = public.scheme == "https" and public.netloc.lower() == host.lower()
    for name in (SECURE,) if is_https else (SECURE, PLAIN):
        if value := cookies.get(name):
            return name, value
    return None


def set_cookie(name: str, value: str, seconds: int = SECONDS) -> str:
    """Return a `Set-Cookie` header's value. An empty cookie with 0 seconds deletes it."""
    secure = "; Secure" if name.startswith("__Host-") else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def check_origin(method: str, headers: Mapping[str, str], public_url: str) -> None:
    """Require that a request was sent by the console's own pages.

    `SameSite` alone does not ensure it, since other ports of the same host are the same site.

    Args:
        method: the request's method.
        headers: the request's headers, by their lower-case names.
        public_url: URL at which the gateway is reached from outside, for proxies that change
            `Host`.

    Raises:
        Forged: it was not.
    """
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forged("a session is for the console's own pages")
    if method in _SAFE_METHODS:
        return
    if headers.get(HEADER) != "1":
        raise Forged(f"a session may not change anything without the header {HEADER}: 1")
    public = urlsplit(public_url)
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        raise Forged("a session may not change anything for pages without an origin") from None
    own_hosts = {headers.get("host", "").lower(), public.netloc.lower()}
    if origin.scheme not in {"http", "https"} or origin.netloc.lower() not in own_hosts:
        raise Forged("a session may not change anything for pages of another origin")
    # A network attacker can forge a page of the same host that is delivered without TLS.
    is_public = origin.netloc.lower() == public.netloc.lower()
    if is_public and (origin.scheme, public.scheme) == ("http", "https"):
        raise Forged(f"a session is for {public.scheme}://{public.netloc}")
