"""Addresses of NATS, which may carry a user and a password."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import unquote, urlsplit

_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})


def split_credentials(addresses: list[str]) -> tuple[list[str], str | None, str | None]:
    """Take user and password out of addresses, and decode them, which nats-py does not.

    Each address that is left has its scheme, in small letters.
    """
    servers: list[str] = []
    user: str | None = None
    password: str | None = None
    for address in addresses:
        scheme, separator, rest = address.strip().partition("://")
        scheme, rest = (scheme.lower(), rest) if separator else ("nats", scheme)
        credentials, at, place = rest.rpartition("@")
        if not at or ":" not in credentials:
            # A token, which nats-py takes out itself.
            servers.append(f"{scheme}://{rest}")
            continue
        if user is None:
            name, _, secret = credentials.partition(":")
            user, password = unquote(name), unquote(secret)
        servers.append(f"{scheme}://{place}")
    return servers, user, password


def check_commas(addresses: list[str]) -> None:
    """Check that no comma between two of these addresses is one of a password.

    It is where the second half has the host of the first, and no scheme: `nats://user:pa` and
    `ss@host`.

    Raises:
        ValueError: one is; says what to write, and shows no part of the password.
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
    """Check that each address has a known scheme, a host, and a valid port if any.

    Raises:
        ValueError: one has not, as an empty one behind a last comma; says what to write.
    """
    for server in split_credentials(addresses)[0]:
        scheme, _, rest = server.partition("://")
        try:
            place = urlsplit(f"//{rest.rpartition('@')[2]}")
            is_valid = bool(place.hostname) and place.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or scheme not in _SCHEMES:
            raise ValueError(
                "one of its addresses is not valid; write nats://host:4222, several separated by "
                "commas"
            )


def without_password(url: str) -> str:
    """Give addresses without the credentials in them, for logs and errors.

    Whatever is taken for credentials to connect with is left out, however it is written: with no
    scheme before it, or with characters that should have been escaped, a comma among them.
    """
    shown: list[str] = []
    is_end = False
    for address in reversed(url.split(",")):
        if is_end and "@" not in address:
            # What comes before the comma is of the password, too, back to where the address begins.
            is_end = "://" not in address
            continue
        is_end = "@" in address and "://" not in address
        shown.append(_without_credentials(address))
    return ",".join(reversed(shown))


def _without_credentials(address: str) -> str:
    scheme, separator, rest = address.strip().partition("://")
    if not separator:
        scheme, rest = "", scheme
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
