"""Which proxy leads to a URL: the variables `HTTPS_PROXY` and the like, as curl reads them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from hogsend.service.ssrf import Network
from hogsend.urls import DEFAULT_PORTS, is_loopback, literal_address


@dataclass(frozen=True)
class Exemption:
    """One entry of `NO_PROXY`."""

    name: str | None = None
    """A host, and with it every host below it; `*` is every host."""
    network: Network | None = None
    """Or hosts that are written as these addresses."""
    port: int | None = None
    """The only port; None is any."""

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """Read `*`, `name`, `.name`, `*.name`, an address or a network; also `name:port`.

        Other programs read the variable, too: what is none of these covers nothing.
        """
        try:
            return cls(network=ipaddress.ip_network(text.strip("[]"), strict=False))
        except ValueError:
            pass
        host, _, port = text.rpartition(":") if re.search(r":\d+$", text) else (text, "", "")
        host = host.strip("[]").removeprefix("*.").strip(".").lower()
        address = literal_address(host)
        network = ipaddress.ip_network(address) if address is not None else None
        return cls(None if network else host, network, int(port) if port else None)

    def covers(self, host: str, port: int) -> bool:
        """Whether a host is reached without a proxy."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = literal_address(host)
            return address is not None and address in self.network
        name = host.rstrip(".").lower()
        return self.name in {"*", name} or name.endswith(f".{self.name}")


@dataclass(frozen=True)
class Proxies:
    """The operator's proxies. Addresses may hold a password, so they are never shown."""

    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    exemptions: tuple[Exemption, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        http: str | None = None,
        https: str | None = None,
        all_schemes: str | None = None,
        without: Iterable[str] = (),
    ) -> Proxies:
        """Take the values of the four variables."""
        exemptions = tuple(
            Exemption.parse(entry) for several in without for entry in several.split()
        )
        return cls(http or all_schemes, https or all_schemes, exemptions)

    def to(self, url: httpx.URL) -> str | None:
        """Give the proxy through which a URL is called; None to call it directly.

        This machine itself is always called directly: a proxy cannot reach it.
        """
        proxy = self.https if url.scheme == "https" else self.http
        if proxy is None or is_loopback(str(url)):
            return None
        port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
        return None if any(one.covers(url.host, port) for one in self.exemptions) else proxy
