"""HTTP clients of our services: they connect only where the egress policy allows.

They follow no redirect and keep no cookie, so a bearer or a secret goes to the URL it is meant for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from hogsend.service.ssrf import Address, AddressRefused, EgressPolicy
from hogsend.urls import literal_address

CONNECT_SECONDS = 3.0
"""How long one of several addresses may take to answer before the next is tried."""


def http_client(
    policy: EgressPolicy,
    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None = None,
) -> httpx.AsyncClient:
    """Create a client that follows no redirect, keeps no cookie, and obeys `policy`.

    It has no timeout of its own: each caller limits its whole request.

    Args:
        policy: which addresses may be called.
        mounts: transports for particular hosts, as httpx takes them; they bypass `policy`.
    """
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        transport=_guarded_transport(policy),
        follow_redirects=False,
        timeout=None,  # noqa: S113
        cookies=jar,
        mounts=mounts,
    )


def _guarded_transport(policy: EgressPolicy) -> httpx.AsyncHTTPTransport:
    """Create a transport that connects only where `policy` allows.

    httpx bypasses it behind a proxy (`HTTPS_PROXY`): the proxy then looks names up, and decides
    where they may lead.
    """
    context = httpx.create_ssl_context()
    transport = httpx.AsyncHTTPTransport(verify=context)
    # httpx has no argument for httpcore's `network_backend`, so its pool is replaced.
    transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=context,
        max_connections=100,
        max_keepalive_connections=20,
        keepalive_expiry=5.0,
        network_backend=_GuardedBackend(policy),
    )
    return transport


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects to the very addresses it has checked."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
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
            if self._policy.allows(host, port, address)
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
