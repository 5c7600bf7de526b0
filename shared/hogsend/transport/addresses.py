"""NATS addresses, which may contain a user and a password."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import unquote, urlsplit

_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})


def split_credentials(addresses: list[str]) -> tuple[list[str], str | None, str | None]:
    """Split addresses into servers, user and password.

    User and password are percent-decoded, which nats-py does not do.

    Returns:
        The addresses without credentials and with their scheme in lower case, and the user and
        password of the first address that has them.
    """
    servers: list[str] = []
    user: str | None = None
    password: str | None = None
    for address in addresses:
        scheme, separator, authority = address.strip().partition("://")
        scheme, authority = (scheme.lower(), authority) if separator else ("nats", scheme)
        credentials, at, host = authority.rpartition("@")
        if not at or ":" not in credentials:
            # No credentials, or a token, which nats-py handles itself.
            servers.append(f"{scheme}://{authority}")
            continue
        if user is None:
            name, _, secret = credentials.partition(":")
            user, password = unquote(name), unquote(secret)
        servers.append(f"{scheme}://{host}")
    return servers, user, password


def check_commas(addresses: list[str]) -> None:
    """Check that no address was split at a comma in its password.

    `nats://user:pa,ss@host` is split into `nats://user:pa` and `ss@host`: the first part has no
    host, the second one no scheme.

    Raises:
        ValueError: one was; the text explains the fix, and contains no part of the password.
    """
    if any(
        "@" in after and "://" not in after and "@" not in before
        for before, after in pairwise(addresses)
    ):
        raise ValueError(
            "a password in it has a comma: write %2C for it; if it has none, write nats:// "
            "before each address"
        )


def check_hosts(addresses: list[str]) -> None:
    """Check that each address has a supported scheme, a host, and a valid port if it has one.

    Raises:
        ValueError: one does not, for example an empty one after a trailing comma; the text explains
            the fix.
    """
    for server in split_credentials(addresses)[0]:
        scheme, _, authority = server.partition("://")
        try:
            parts = urlsplit(f"//{authority.rpartition('@')[2]}")
            is_valid = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or scheme not in _SCHEMES:
            raise ValueError(
                "one of its addresses is not valid; write nats://host:4222, several separated by "
                "commas"
            )


def without_password(url: str) -> str:
    """Return addresses without their credentials, for logs and errors.

    Credentials are removed also where they are written wrongly: without a scheme before them, or
    with characters that should have been escaped, including commas.
    """
    shown: list[str] = []
    is_in_password = False
    for address in reversed(url.split(",")):
        if is_in_password and "@" not in address:
            # Part of a password with commas, up to the part that has the scheme.
            is_in_password = "://" not in address
            continue
        is_in_password = "@" in address and "://" not in address
        shown.append(_without_credentials(address))
    return ",".join(reversed(shown))


def _without_credentials(address: str) -> str:
    scheme, separator, authority = address.strip().partition("://")
    if not separator:
        scheme, authority = "", scheme
    return f"{scheme}{separator}{authority.rpartition('@')[2]}"
