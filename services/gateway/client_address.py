"""Whose request this is: the client's address, seen through the proxies that are trusted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from litestar.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""Addresses of IPv4 as a socket of IPv6 gives them."""
_IPV4_BITS = (1 << 32) - 1
_FORWARDED_FOR = re.compile(r'\bfor\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]*)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")


class ClientAddresses:
    """Finds clients' addresses.

    A trusted proxy's `X-Forwarded-For`, or `Forwarded` (RFC 7239), is read from the right, since
    every proxy adds to it there: the first address that no trusted proxy has is the client's. What
    is further left may be made up by anybody.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Trust proxies in these networks, for example `10.0.0.0/8`.

        Raises:
            ValueError: one is no address or network.
        """
        self._trusted: list[Network] = [parse_network(text) for text in trusted]

    def of(self, scope: Scope) -> str:
        """Give the address of a request's client; empty when the server does not know it."""
        client: Any = scope.get("client")
        peer = _parsed(client[0]) if client else None
        if peer is None:
            return client[0] if client else ""
        if not self._trusted or not self._trusts(peer):
            return str(peer)
        lists, standard = _header_values(scope)
        if lists and standard and lists != standard:
            # One of them came from the client, and which one only the proxy knows.
            return str(peer)
        return str(self._first_untrusted(peer, lists or standard))

    def _first_untrusted(self, peer: Address, named: Sequence[str]) -> Address:
        found = peer
        for text in reversed(named):
            address = _parsed(text)
            if address is None:
                # For example `unknown`: the proxy that wrote it is as far as can be seen.
                return found
            found = address
            if not self._trusts(found):
                break
        return found

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_network(text: str) -> Network:
    """Read an address or a network of proxies.

    Raises:
        ValueError: it is none, or everybody's; says what to write, and repeats no part of it.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "an entry is not an address or network; write for example 10.0.0.0/8 or 192.0.2.7"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # As clients of a socket of IPv6 are seen, which are looked up as what they are.
        start = int(network.network_address) & _IPV4_BITS
        network = ipaddress.IPv4Network((start, network.prefixlen - _MAPPED.prefixlen))
    if not network.prefixlen:
        raise ValueError(
            "an entry covers every address, so that any client could choose its own; write the "
            "network that the proxies are in"
        )
    return network


def counted_as(address: str) -> str:
    """Give what an address is counted as: a whole /64 of IPv6, which one customer has."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _header_values(scope: Scope) -> tuple[list[str], list[str]]:
    lists: list[str] = []
    standard: list[str] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            lists += [entry.strip() for entry in value.decode("latin-1").split(",")]
        elif name == b"forwarded":
            standard += _elements(value.decode("latin-1"))
    return [_bare(entry) for entry in lists], [_bare(entry) for entry in standard]


def _elements(value: str) -> Iterator[str]:
    for element in value.split(","):
        found = _FORWARDED_FOR.search(element)
        yield found[1].strip('"') if found else "unknown"


def _bare(text: str) -> str:
    """Take away a port, and the brackets of IPv6."""
    with_port = _WITH_PORT.fullmatch(text)
    return (with_port[1] or with_port[2]) if with_port else text


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
