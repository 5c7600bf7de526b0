"""The HTTP clients of our services, which call only addresses that the egress policy allows.

They follow no redirects and keep no cookies, so that a bearer token or another secret is only sent
to the URL that it is meant for.
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

from hogsend.posthog.response_body import ACCEPTED
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
"""Areas of PostHog's API by path segment; the last segment that is listed here decides."""

NOT_POSTHOG = {"hogsend.posthog": False}
"""`extensions` of a request to another server than PostHog. It is not counted: its path may look
like one of PostHog's."""

CONNECT_SECONDS = 3.0
"""How long to try an address of a host before its next address; the last one has no such limit."""

MAX_CONNECTIONS = 100
"""Concurrent requests of a client; more wait, within the timeouts of their callers."""


def http_client(
    policy: EgressPolicy,
    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None = None,
    *,
    proxies: Proxies | None = None,
) -> httpx.AsyncClient:
    """Create a client that follows no redirects, keeps no cookies, and enforces `policy`.

    The client has no timeouts: each caller limits the time of its whole request.

    Args:
        policy: the addresses that may be called.
        mounts: httpx transports for particular hosts; they bypass `policy`.
        proxies: the proxies to use; no proxies by default.
    """
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        # With a transport, httpx does not read proxies from the environment.
        transport=_Outbound(policy, proxies or Proxies()),
        headers=ACCEPTED,
        follow_redirects=False,
        timeout=None,  # noqa: S113
        cookies=jar,
        mounts=mounts,
    )


class _Outbound(httpx.AsyncBaseTransport):
    """Calls addresses that `policy` allows, directly or through a proxy."""

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
        # The proxy resolves the name, so only the name itself can be checked here.
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
    """Return the area of PostHog's API that a request is for; None for another server."""
    if not request.extensions.get("hogsend.posthog", True):
        return None
    areas = [AREAS[part] for part in request.url.path.split("/") if part in AREAS]
    return areas[-1] if areas else None


def _guarded_transport(policy: EgressPolicy, context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Create a transport that connects only where `policy` allows."""
    transport = httpx.AsyncHTTPTransport(verify=context)
    # httpx has no argument for httpcore's `network_backend`, so the pool is replaced.
    transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=context,
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=20,
        keepalive_expiry=5.0,
        network_backend=_GuardedBackend(policy),
    )
    keep_usable(transport._pool)  # noqa: SLF001
    return transport


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects to the addresses that it has checked.

    If the address were checked before and resolved again to connect, the name could lead to another
    address by then (DNS rebinding).
    """

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
        """Connect to the first allowed address of `host` that accepts the connection."""
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
        entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} has no address") from error
    # The scope of an address (`fe80::1%eth0`) makes no difference to the policy.
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries)
    return [ipaddress.ip_address(text) for text in texts]
