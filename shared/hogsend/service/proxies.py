"""Selects the proxy for a URL from `HTTPS_PROXY` and similar variables, with curl's rules."""

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
    """A host and all its subdomains; `*` is every host."""
    network: Network | None = None
    """Instead of a name: the addresses of hosts that are written as IP addresses."""
    port: int | None = None
    """The port that it is limited to; None for any port."""

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """Parse `*`, `name`, `.name`, `*.name`, an address or a network; also `name:port`.

        Any other text is accepted, because other programs use the variable, too. It covers no host.
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
        """Whether a host and port are called without a proxy."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = literal_address(host)
            return address is not None and address in self.network
        name = host.rstrip(".").lower()
        return self.name in {"*", name} or name.endswith(f".{self.name}")


@dataclass(frozen=True)
class Proxies:
    """The operator's proxies. `repr` hides their addresses, which may contain passwords."""

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
        """Create the proxies from the values of the four variables.

        Args:
            http: `HTTP_PROXY`.
            https: `HTTPS_PROXY`.
            all_schemes: `ALL_PROXY`, for a scheme without a proxy of its own.
            without: entries of `NO_PROXY`; an entry may contain several, separated by spaces.
        """
        exemptions = tuple(
            Exemption.parse(entry) for entries in without for entry in entries.split()
        )
        return cls(http or all_schemes, https or all_schemes, exemptions)

    def to(self, url: httpx.URL) -> str | None:
        """Return the proxy for a URL; None to call it directly.

        Loopback addresses are always called directly: a proxy cannot reach this machine's.
        """
        proxy = self.https if url.scheme == "https" else self.http
        if proxy is None or is_loopback(str(url)):
            return None
        port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
        is_exempt = any(exemption.covers(url.host, port) for exemption in self.exemptions)
        return None if is_exempt else proxy
