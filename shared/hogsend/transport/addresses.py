"""Addresses of NATS, which may carry a user and a password."""

from __future__ import annotations

from urllib.parse import unquote


def split_credentials(addresses: list[str]) -> tuple[list[str], str | None, str | None]:
    """Take user and password out of addresses, and decode them, which nats-py does not."""
    servers: list[str] = []
    user: str | None = None
    password: str | None = None
    for address in addresses:
        scheme, separator, rest = address.strip().partition("://")
        if not separator:
            scheme, rest = "nats", scheme
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


def without_password(url: str) -> str:
    """Give addresses without the credentials in them, for logs and errors.

    Whatever is taken for credentials to connect with is left out, however it is written: with no
    scheme before it, or with characters that should have been escaped.
    """
    return ",".join(_without_credentials(address) for address in url.split(","))


def _without_credentials(address: str) -> str:
    scheme, separator, rest = address.strip().partition("://")
    if not separator:
        scheme, rest = "", scheme
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
