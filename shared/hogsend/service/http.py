"""HTTP clients of our services: they call only what the egress policy allows, by proxy or not.

They follow no redirect and keep no cookie, so a bearer or a secret goes to the URL it is meant for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from hogsend.posthog.answer_body import ACCEPTED
from hogsend.service import metrics
from hogsend.service.http_pool import keep_usable
from hogsend.service.proxies import Proxies
from hogsend.service.ssrf import Address, AddressRefused, EgressPolicy
from hogsend.urls import DEFAULT_PORTS, literal_address

AREAS = {
    "oauth": "oauth",
    "i": "capture",
    "batch": "capture",
    "flags": "flags",
    "decide": "flags",
    "persons": "persons",
    "hog_functions": "hog_functions",
    "projects": "projects",
    "environments": "projects",
    "organizations": "projects",
    "users": "projects",
    "query": "query",
}
"""Area of PostHog's API by a part of the path; the last part that is here decides."""

NOT_POSTHOG = {"hogsend.posthog": False}
"""`extensions` of a request to another server, whose path may look like PostHog's."""

CONNECT_SECONDS = 3.0
"""How long one of several addresses may take to answer before the next is tried."""

MOST_REQUESTS = 100
"""Requests of a client at the same time; more wait, within what their callers give them."""


def http_client(
    policy: EgressPolicy,
    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None = None,
    *,
    proxies: Proxies | None = None,
) -> httpx.AsyncClient:
    """Create a client that follows no redirect, keeps no cookie, and obeys `policy`.

    It has no timeout of its own: each caller limits its whole request.

    Args:
        policy: which addresses may be called.
        mounts: transports for particular hosts, as httpx takes them; they bypass `policy`.
        proxies: through which proxies; none without.
    """
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        # httpx reads no proxy from the environment when it is given a transport.
        transport=_Outbound(policy, proxies or Proxies()),
        headers=ACCEPTED,
        follow_redirects=False,
        timeout=None,  # noqa: S113
        cookies=jar,
        mounts=mounts,
    )


class _Outbound(httpx.AsyncBaseTransport):
    """Calls directly or through a proxy, and in both cases only what `policy` allows."""

    def __init__(self, policy: EgressPolicy, proxies: Proxies) -> None:
        self._policy = policy
        self._proxies = proxies
        self._context = httpx.create_ssl_context()
        self._direct = _guarded_transport(policy, self._context)
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        area, status = _area(request), "error"
        try:
            response = await self._send(request)
            status = str(response.status_code)
        finally:
            if area is not None:
                metrics.POSTHOG_REQUESTS.labels(area, status).inc()
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        proxy = self._proxies.to(request.url)
        if proxy is None:
            return await self._direct.handle_async_request(request)
        host = request.url.host
        port = request.url.port or DEFAULT_PORTS.get(request.url.scheme, 0)
        # The proxy looks the name up, and decides where it may lead.
        if not self._policy.allows_unresolved(host, port):
            raise AddressRefused(host)
        return await self._through(proxy).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._direct, *self._proxied.values()):
            await transport.aclose()

    def _through(self, proxy: str) -> httpx.AsyncHTTPTransport:
        if proxy not in self._proxied:
            self._proxied[proxy] = transport = httpx.AsyncHTTPTransport(
                verify=self._context,
                proxy=httpx.Proxy(proxy, ssl_context=self._context)
                if proxy.startswith("https:")
                else httpx.Proxy(proxy),
            )
            keep_usable(transport._pool)  # noqa: SLF001
        return self._proxied[proxy]


def _area(request: httpx.Request) -> str | None:
    """Area of PostHog's API that a request is for; None for another server's."""
    if not request.extensions.get("hogsend.posthog", True):
        return None
    known = [AREAS[part] for part in request.url.path.split("/") if part in AREAS]
    return known[-1] if known else None


def _guarded_transport(policy: EgressPolicy, context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Create a transport that connects only where `policy` allows."""
    transport = httpx.AsyncHTTPTransport(verify=context)
    # httpx has no argument for httpcore's `network_backend`, so its pool is replaced.
    transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=context,
        max_connections=MOST_REQUESTS,
        max_keepalive_connections=20,
        keepalive_expiry=5.0,
        network_backend=_GuardedBackend(policy),
    )
    keep_usable(transport._pool)  # noqa: SLF001
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
