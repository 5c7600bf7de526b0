"""URLs: whether a text is one, where it leads, and whether that is this machine (contract 7.3)."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
"""The port of a URL that names none."""


class Origin(NamedTuple):
    """Where a URL leads: what may be sent to one address may be sent to another of its origin."""

    scheme: str
    host: str | None
    """In lower case, without the brackets of an IPv6 address."""
    port: int | None
    """None where a scheme has no port that is known here."""


def origin(url: str) -> Origin:
    """Read the origin of a URL, the same however it is written.

    Raises:
        ValueError: its host or its port is not one.
    """
    parts = urlsplit(url)
    return Origin(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme))


def is_absolute_url(url: str) -> bool:
    """Whether `url` is one URL with a host, and nothing browsers and libraries read differently."""
    if any(character <= " " or character in "\\\x7f" for character in url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:
        return False


def has_password(url: str) -> bool:
    """Whether an absolute URL carries a user or a password, which is shown wherever the URL is."""
    return "@" in urlsplit(url).netloc


def is_loopback(url: str) -> bool:
    """Whether only this machine can reach `url`; False for text that is not a URL.

    True for `localhost`, names under `.localhost`, the loopback and unspecified addresses in every
    spelling a browser accepts (`127.1`, `0x7f.1`, `2130706433`, IPv4-mapped IPv6).
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    if not host:
        return False
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = literal_address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def host_and_port(host: str, port: int | str) -> str:
    """Write both as a URL has them: an address of IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(host: str, port: int | str) -> str:
    """Give host and port at which this machine reaches what listens there.

    Every address of this machine, which `0.0.0.0`, `::` and no host at all stand for, is reached at
    loopback.
    """
    address = literal_address(host) if host else ipaddress.IPv4Address(0)
    if address is not None and address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004
    return host_and_port(host, port)


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a host that is written as an address, in every spelling libraries accept.

    None for a name, which may lead anywhere.
    """
    # Browsers, curl and proxies read `10.0.0.1.` as the address.
    host = host.removesuffix(".")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # inet_aton reads the short, hexadecimal and octal spellings browsers accept.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
