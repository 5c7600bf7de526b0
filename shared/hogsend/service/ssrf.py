"""Which addresses our services may call: the public ones, and what the operator allows.

Some URLs we call were given to us: a grant's token endpoint, a destination's host. Checking their
text is not enough, since a name can lead anywhere and elsewhere a moment later. So the address is
checked where the connection is made, and the connection goes to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpcore
import httpx

from hogsend.contract.errors import InvalidRequest
from hogsend.urls import literal_address

CONNECT_SECONDS = 3.0
"""How long one of several addresses may take to answer before the next is tried."""

SETTING = "OUTBOUND_ALLOW"

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressRefused(httpx.ConnectError):
    """Nothing was sent: the host is at an address that is not public and not allowed."""

    def __init__(self, host: str) -> None:
        """Say which host, and how to allow it; safe to show."""
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
            ValueError: it is none of these.
        """
        try:
            return cls(network=ipaddress.ip_network(text))
        except ValueError:
            pass
        parts = urlsplit(f"//{text}")
        host = parts.hostname
        if not host or parts.netloc != text or "@" in text:
            raise ValueError(f"{text!r} is no host, address or network")
        address = literal_address(host)
        if address is not None:
            return cls(network=ipaddress.ip_network(address), port=parts.port)
        return cls(name=host.rstrip(".").lower(), port=parts.port)

    @classmethod
    def of_url(cls, url: str) -> AllowedHost:
        """Make the entry that allows the host and port of a URL, and no other port."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = literal_address(host)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
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


class Outbound:
    """The rule: public addresses, and the operator's exceptions."""

    def __init__(self, allowed: Iterable[AllowedHost] = ()) -> None:
        """Make the rule with these exceptions."""
        self._allowed = tuple(allowed)

    @classmethod
    def of(cls, allow: Iterable[str], *urls: str | None) -> Outbound:
        """Make the rule of a service.

        Args:
            allow: `OUTBOUND_ALLOW`.
            urls: addresses among the operator's own settings; each allows itself.
        """
        entries = [AllowedHost.parse(text) for text in allow]
        return cls([*entries, *(AllowedHost.of_url(url) for url in urls if url)])

    def allows(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to `address`, which `host` led to, may be made."""
        if is_public(address):
            return True
        name = host.rstrip(".").lower()
        return any(entry.covers(name, port, address) for entry in self._allowed)

    def names(self, url: str) -> bool:
        """Whether the operator named the host of a URL, by its name or by its address."""
        wanted = AllowedHost.of_url(url)
        return any(
            allowed.port in {None, wanted.port}
            and (
                # Every address at once names nobody in particular: a name must be there as a name.
                allowed.name == wanted.name
                if wanted.network is None
                else allowed.network is not None
                and wanted.network.network_address in allowed.network
            )
            for allowed in self._allowed
        )

    def check(self, url: str, field: str) -> None:
        """Refuse a URL whose host is written as an address that may not be called.

        Names are not looked up: what they lead to is checked at every connection.

        Raises:
            InvalidRequest: `field` holds such a URL.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = literal_address(host)
        if address is None and _is_local_name(host):
            address = ipaddress.IPv4Address("127.0.0.1")
        if address is None:
            return
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        if not self.allows(host, port, address):
            raise InvalidRequest(f"{field}: {AddressRefused(host)}")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and nothing inside it does not."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def guarded_transport(outbound: Outbound) -> httpx.AsyncHTTPTransport:
    """Make an httpx transport that connects only where `outbound` allows.

    Behind a proxy (`HTTPS_PROXY`) httpx does not use it: names are looked up there, and where they
    may lead is the proxy's to decide.
    """
    transport = httpx.AsyncHTTPTransport()
    # httpx has no argument for httpcore's `network_backend`; its pool is made anew with one.
    transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=httpx.create_ssl_context(),
        max_connections=100,
        max_keepalive_connections=20,
        keepalive_expiry=5.0,
        network_backend=_GuardedBackend(outbound),
    )
    return transport


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Looks names up itself, and connects to addresses that were checked."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that is allowed and answers."""
        addresses = [
            address
            for address in await _addresses_of(host, port)
            if self._outbound.allows(host, port, address)
        ]
        if not addresses:
            raise AddressRefused(host)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(
            str(addresses[-1]), port, timeout, local_address, socket_options
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _addresses_of(host: str, port: int) -> Sequence[Address]:
    literal = literal_address(host)
    if literal is not None:
        return [literal]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} has no address") from error
    # A scope (`fe80::1%eth0`) does not change what kind of address it is.
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ipaddress.ip_address(text) for text in texts]


def _is_local_name(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")
