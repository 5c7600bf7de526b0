"""Where a webhook may go, and which address it really goes to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import httpx
import msgspec

from hogsend.urls import is_loopback
from sandbox.options import Resolve


class Target(msgspec.Struct, frozen=True):
    """A request's address, and what it says it is for."""

    url: str
    host_header: str
    server_name: str


class BlockedTarget(Exception):
    """The URL is not one a webhook may go to."""


def target(url: str, resolve: Sequence[Resolve], *, anywhere: bool) -> Target:
    """Find out where `url` is.

    PostHog refuses private and loopback addresses (`SecureRequestError` in
    nodejs/src/common/utils/request.ts). The sandbox is for this machine, so it allows loopback and
    the hosts in `resolve`, and the rest of the world only when asked.

    Raises:
        BlockedTarget: it is not an http URL, or leads elsewhere.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise BlockedTarget("the URL is not valid") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BlockedTarget("the URL is not an http URL")
    host_header = parsed.netloc.decode()
    for one in resolve:
        if one.host == parsed.host.lower():
            moved = parsed.copy_with(host=one.address, port=one.port)
            return Target(str(moved), host_header, parsed.host)
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
