"""Checks the URL of a webhook, and determines the address to connect to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import httpx
import msgspec

from hogsend.urls import is_loopback
from sandbox.options import Resolve


class Target(msgspec.Struct, frozen=True):
    """The URL to connect to, with the host name for Host header and TLS."""

    url: str
    host_header: str
    server_name: str


class BlockedTarget(Exception):
    """A webhook must not use this URL."""


def resolve_target(url: str, resolve: Sequence[Resolve], *, anywhere: bool) -> Target:
    """Resolve the URL of a webhook.

    PostHog refuses private and loopback addresses (`SecureRequestError` in
    nodejs/src/common/utils/request.ts). The sandbox is for local use, so it allows loopback and the
    hosts in `resolve`, and other hosts only with `anywhere`.

    Raises:
        BlockedTarget: the URL is not an http URL, or its host is not allowed.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise BlockedTarget("the URL is not valid") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BlockedTarget("the URL is not an http URL")
    host_header = parsed.netloc.decode()
    for entry in resolve:
        if entry.host == parsed.host.lower():
            resolved = parsed.copy_with(host=entry.address, port=entry.port)
            return Target(str(resolved), host_header, parsed.host)
    if not anywhere and not is_loopback(url):
        raise BlockedTarget(
            f"{parsed.host} is not on this machine; see the options resolve and deliver-anywhere"
        )
    if anywhere and _is_private(parsed.host) and not is_loopback(url):
        raise BlockedTarget(f"{parsed.host} is a private address, which PostHog refuses too")
    return Target(str(parsed), host_header, parsed.host)


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private or address.is_link_local
