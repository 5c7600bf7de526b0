"""URLs: validity, origin, and whether one points to this machine (contract 7.3)."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
"""Default port of each scheme."""


class Origin(NamedTuple):
    """Scheme, host and port of a URL. Data for one URL may also be sent to others of its origin."""

    scheme: str
    host: str | None
    """In lower case, without the brackets of an IPv6 address."""
    port: int | None
    """None for a scheme without a default port in `DEFAULT_PORTS`."""


def origin(url: str) -> Origin:
    """Return the origin of a URL, normalized.

    Raises:
        ValueError: its host or its port is not valid.
    """
    parts = urlsplit(url)
    return Origin(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme))


def is_absolute_url(url: str) -> bool:
    """Whether `url` is a URL with a host that browsers and libraries parse in the same way."""
    if any(character <= " " or character in "\\\x7f" for character in url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:
        return False


def has_password(url: str) -> bool:
    """Whether an absolute URL contains a user or a password, which would be shown with the URL."""
    return "@" in urlsplit(url).netloc


def is_loopback(url: str) -> bool:
    """Whether `url` points to this machine only; False for text that is not a URL.

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
    """Return `host:port` as in a URL, with an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(host: str, port: int | str) -> str:
    """Return the `host:port` with which this machine connects to a listener on `host`.

    A listener on `0.0.0.0`, `::` or an empty host accepts connections on all addresses of this
    machine; the loopback address is returned for it.
    """
    address = literal_address(host) if host else ipaddress.IPv4Address(0)
    if address is not None and address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004
    return host_and_port(host, port)


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse a host that is an IP address, in every spelling that libraries accept.

    None for a name, which may resolve to any address.
    """
    # Browsers, curl and proxies accept a trailing dot, as in `10.0.0.1.`.
    host = host.removesuffix(".")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # inet_aton parses the short, hexadecimal and octal spellings that browsers accept.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
