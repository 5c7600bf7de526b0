"""Egress policy against SSRF: services call public addresses, and others that an operator allows.

Some URLs come from outside, such as a grant's token endpoint or a destination's host. Checking the
text of a URL is not enough: a name can resolve to any address, and to another one a moment later.
So `hogsend.service.http` checks the address when it connects, and connects to the checked address.
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
"""The IPv6 addresses that are allocated (RFC 4291, 2.4). Python's `is_global` is also true for
others, which include a network's own NAT64 and other translations to private IPv4 addresses."""
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "3fff::/20",  # documentation (RFC 9637)
        "192.0.0.0/24",  # protocol assignments (RFC 6890); 192.0.0.192 is a metadata service
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    )
)
"""Networks that are not public, although `is_global` is true for them in some Python version."""
_INTERNAL_SUFFIXES = (
    *("localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "svc"),
    *("home.arpa", "in-addr.arpa", "ip6.arpa", "test", "invalid", "onion"),
)
"""Suffixes of names that are not in the public DNS (RFC 6761, 6762, 8375, and common usage)."""
_PUBLIC_NAME = re.compile(r"(?:[\w-]+\.)+(?!\d|-)[\w-]+")
"""A name with a dot whose last label does not start with a digit. Other texts, such as `10%2e0.0.1`
and `1.0x7f000001`, are parsed as IP addresses by some software."""


class AddressRefused(httpx.ConnectError):
    """Nothing was sent: the host's address is neither public nor allowed.

    The message contains no secret, so it can be shown to users.
    """

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is not at a public address; add it to {SETTING} if it is meant to be called"
        )


@dataclass(frozen=True)
class AllowedHost:
    """One entry of `OUTBOUND_ALLOW`."""

    name: str | None = None
    """A host name in lower case."""
    network: Network | None = None
    """Instead of a name: one or more addresses."""
    port: int | None = None
    """The port that it is limited to; None for any port."""

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """Parse `name`, `name:port`, `address`, `address:port`, `[v6]:port` or `network/bits`.

        Raises:
            ValueError: `text` has none of these formats.
        """
        try:
            return cls(network=ipaddress.ip_network(text))
        except ValueError:
            pass
        # The messages do not quote the text: it may be a pasted URL with a password.
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
        """Create the entry that allows the host of a URL on the URL's port."""
        _, named, port = origin(url)
        host = named or ""
        address = literal_address(host)
        if address is not None:
            return cls(network=ipaddress.ip_network(address), port=port)
        return cls(name=host.rstrip(".").lower(), port=port)

    def covers(self, name: str, port: int, address: Address) -> bool:
        """Whether this entry allows a connection to `address`, to which `name` resolved."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address in self.network
        return self.name == name


class EgressPolicy:
    """Allows calls to public addresses, and to other addresses that an `AllowedHost` covers."""

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
        """Whether a connection to `address` is allowed, to which `host` resolved."""
        if is_public(address):
            return True
        name = host.rstrip(".").lower()
        return any(entry.covers(name, port, address) for entry in self._allowed)

    def allows_unresolved(self, host: str, port: int) -> bool:
        """Whether a host may be called through a proxy, which resolves its name.

        An IP address is checked like any other. A name is allowed if it is listed, or if it looks
        like a name in the public DNS. Restricting the addresses behind it is up to the proxy.
        """
        address = literal_address(host)
        if address is not None:
            return self.allows(host, port, address)
        name = host.rstrip(".").lower()
        if any(entry.name == name and entry.port in {None, port} for entry in self._allowed):
            return True
        return _PUBLIC_NAME.fullmatch(name) is not None and not any(
            name == suffix or name.endswith(f".{suffix}") for suffix in _INTERNAL_SUFFIXES
        )

    def names(self, url: str) -> bool:
        """Whether the operator listed the host of a URL, by its name or by its address."""
        host = AllowedHost.of_url(url)
        return any(
            allowed.port in {None, host.port}
            and (
                # A name must be listed itself: whether it resolves to a listed address is unknown.
                allowed.name == host.name
                if host.network is None
                else allowed.network is not None and host.network.network_address in allowed.network
            )
            for allowed in self._allowed
        )

    def check(self, url: str, field: str) -> None:
        """Refuse a URL with an IP address that is not allowed, or with a name of this machine.

        Other names are not resolved here: their addresses are checked at each connection.

        Raises:
            InvalidRequest: `field` contains such a URL.
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
    """Whether an address is public; an IPv4 address embedded in an IPv6 one must be public."""
    embedded: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        return is_public(embedded)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _is_local_name(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")
