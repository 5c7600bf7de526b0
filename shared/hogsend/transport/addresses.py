"""Addresses of NATS, which may carry a user and a password."""

from __future__ import annotations

import re
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
    """Give an address without the credentials in it, for logs and errors."""
    return re.sub(r"//[^@/]*@", "//", url)
