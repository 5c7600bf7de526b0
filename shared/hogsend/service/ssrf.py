"""Egress policy against SSRF: our services call public addresses, and what the operator allows.

Some URLs come from others: a grant's token endpoint, a destination's host. Checking their text is
not enough, because a name can resolve to any address, and to another one a moment later.
`hogsend.service.http` therefore checks the address when it connects, and connects to that address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx

from hogsend.contract.errors import InvalidRequest
from hogsend.urls import literal_address, origin

SETTING = "OUTBOUND_ALLOW"

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is given out (RFC 4291, 2.4). Python calls global what is not, and a network's
own NAT64 and other ways to IPv4 inside are there."""
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "3fff::/20",  # for documentation (RFC 9637)
        "192.0.0.0/24",  # of protocols (RFC 6890); 192.0.0.192 is a cloud's metadata service
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
    )
)
"""Not of the public internet, though Python, or an older one, calls them global."""
_INSIDE = (
    *("localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "svc"),
    *("home.arpa", "in-addr.arpa", "ip6.arpa", "test", "invalid", "onion"),
)
"""Endings of names that are not of the public internet (RFC 6761, 6762, 8375 and usage)."""
_PUBLIC_NAME = re.compile(r"(?:[\w-]+\.)+(?!\d|-)[\w-]+")
"""A name with a dot, whose last label is no number. Some read others as an address: `10%2e0.0.1`,
`1.0x7f000001`."""


class AddressRefused(httpx.ConnectError):
    """Nothing was sent: the host's address is neither public nor allowed. Safe to show."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is not at a public address; add it to {SETTING} if it is meant to be called"
        )


@dataclass(frozen=True)
class AllowedHost:
    """One entry of `OUTBOUND_ALLOW`."""

    name: str | None = None
    """Host name, lower case."""
    network: Network | None = None
    """Or addresses."""
    port: int | None = None
    """The only port; None is any."""

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """Read `name`, `name:port`, `address`, `address:port`, `[v6]:port` or `network/bits`.

        Raises:
            ValueError: `text` is none of these.
        """
        try:
            return cls(network=ipaddress.ip_network(text))
        except ValueError:
            pass
        # Nothing of it is repeated: where people paste a URL there may be a password in it.
        example = "write for example posthog.internal, 10.0.0.5:8000 or 10.0.0.0/8"
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"an entry is not a host, address or network; {example}") from None
        if not host or parts.netloc != text or "@" in text:
            raise ValueError(f"an entry is not a host, address or network; {example}")
        if "*" in host:
            raise ValueError(f"an entry has a *, which is not supported; {example}")
        address = literal_address(host)
        if address is not None:
            return cls(network=ipaddress.ip_network(address), port=port)
        return cls(name=host.rstrip(".").lower(), port=port)

    @classmethod
    def of_url(cls, url: str) -> AllowedHost:
        """Create the entry that allows the host and port of a URL, and no other port."""
        _, named, port = origin(url)
        host = named or ""
        address = literal_address(host)
        if address is not None:
            return cls(network=ipaddress.ip_network(address), port=port)
        return cls(name=host.rstrip(".").lower(), port=port)

    def covers(self, name: str, port: int, address: Address) -> bool:
        """Whether a connection to `address`, which `name` led to, is allowed by this entry."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address in self.network
        return self.name == name


class EgressPolicy:
    """Public addresses may be called, and of the others those that an `AllowedHost` covers."""

    def __init__(self, allowed: Iterable[AllowedHost] = ()) -> None:
        self._allowed = tuple(allowed)

    @classmethod
    def of(cls, allow: Iterable[str], *urls: str | None) -> EgressPolicy:
        """Create the policy of a service.

        Args:
            allow: `OUTBOUND_ALLOW`.
            urls: URLs among the operator's settings; the host and port of each are allowed.
        """
        entries = [AllowedHost.parse(text) for text in allow]
        return cls([*entries, *(AllowedHost.of_url(url) for url in urls if url)])

    def allows(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to `address`, which `host` led to, may be made."""
        if is_public(address):
            return True
        name = host.rstrip(".").lower()
        return any(entry.covers(name, port, address) for entry in self._allowed)

    def allows_unresolved(self, host: str, port: int) -> bool:
        """Whether a host may be called through a proxy, which looks up its address.

        An address is judged as always. A name is judged by its looks: one that only exists inside a
        network is refused unless it is listed. Where a public name leads is left to the proxy.
        """
        address = literal_address(host)
        if address is not None:
            return self.allows(host, port, address)
        name = host.rstrip(".").lower()
        if any(entry.name == name and entry.port in {None, port} for entry in self._allowed):
            return True
        return _PUBLIC_NAME.fullmatch(name) is not None and not any(
            name == end or name.endswith(f".{end}") for end in _INSIDE
        )

    def names(self, url: str) -> bool:
        """Whether the operator named the host of a URL, by its name or by its address."""
        wanted = AllowedHost.of_url(url)
        return any(
            allowed.port in {None, wanted.port}
            and (
                # A network covers any name's address, so a name counts only where it is listed.
                allowed.name == wanted.name
                if wanted.network is None
                else allowed.network is not None
                and wanted.network.network_address in allowed.network
            )
            for allowed in self._allowed
        )

    def check(self, url: str, field: str) -> None:
        """Refuse a URL whose host is written as an address that may not be called.

        Names are not resolved here: their addresses are checked at every connection.

        Raises:
            InvalidRequest: `field` holds such a URL.
        """
        _, named, port = origin(url)
        host = named or ""
        address = literal_address(host)
        if address is None and _is_local_name(host):
            address = ipaddress.IPv4Address("127.0.0.1")
        if address is None:
            return
        if not self.allows(host, port or 0, address):
            raise InvalidRequest(f"{field}: {AddressRefused(host)}")


def is_public(address: Address) -> bool:
    """Whether an address, and any IPv4 address embedded in it, belongs to the public internet."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _is_local_name(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")
