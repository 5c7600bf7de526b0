"""Finds the address of a request's client, also behind trusted proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from litestar.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4-mapped addresses: the form in which an IPv6 socket reports IPv4 clients."""
_IPV4_BITS = (1 << 32) - 1
_FORWARDED_FOR = re.compile(r'\bfor\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]*)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")


class ClientAddresses:
    """Finds the addresses of clients.

    The `X-Forwarded-For` or `Forwarded` (RFC 7239) header of a trusted proxy is read from the
    right, where each proxy appends the address that connected to it. The first address that is not
    a trusted proxy's is the client's. Entries further left may be forged.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Trust proxies in these networks, for example `10.0.0.0/8`.

        Raises:
            ValueError: an entry is not an address or network.
        """
        self._trusted: list[Network] = [parse_network(text) for text in trusted]

    def of(self, scope: Scope) -> str:
        """Return the address of a request's client, or an empty text if the server has none."""
        client: Any = scope.get("client")
        peer = _parsed(client[0]) if client else None
        if peer is None:
            return client[0] if client else ""
        if not self._trusts(peer):
            return str(peer)
        lists, standard = _header_values(scope)
        if lists and standard and lists != standard:
            # One of the two headers was sent by the client, and it is unknown which one.
            return str(peer)
        return str(self._first_untrusted(peer, lists or standard))

    def _first_untrusted(self, peer: Address, entries: Sequence[str]) -> Address:
        client = peer
        for text in reversed(entries):
            address = _parsed(text)
            if address is None:
                # For example `unknown`. The proxy that wrote it is the last known address.
                return client
            client = address
            if not self._trusts(client):
                break
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_network(text: str) -> Network:
    """Read an address or a network of proxies.

    Raises:
        ValueError: it is neither, or covers every address. The message does not repeat the text,
            which might be a secret.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "an entry is not an address or network; write for example 10.0.0.0/8 or 192.0.2.7"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # Clients are compared by their IPv4 addresses, so a mapped network is converted, too.
        start = int(network.network_address) & _IPV4_BITS
        network = ipaddress.IPv4Network((start, network.prefixlen - _MAPPED.prefixlen))
    if not network.prefixlen:
        raise ValueError(
            "an entry covers every address, so that any client could choose its own; write the "
            "network that the proxies are in"
        )
    return network


def client_key(address: str) -> str:
    """Return the key by which an address is rate limited.

    For IPv6 it is the /64 network, because one customer usually has a whole /64.
    """
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
        match = _FORWARDED_FOR.search(element)
        yield match[1].strip('"') if match else "unknown"


def _bare(text: str) -> str:
    """Remove a port, and the brackets of IPv6."""
    with_port = _WITH_PORT.fullmatch(text)
    return (with_port[1] or with_port[2]) if with_port else text


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
