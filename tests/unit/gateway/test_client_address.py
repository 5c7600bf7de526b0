"""Client addresses: forwarding headers count only when a trusted proxy sent them."""

from __future__ import annotations

from typing import Any, cast

import pytest
from litestar.types import Scope

from services.gateway.client_address import ClientAddresses, client_key
from services.gateway.settings import GatewaySettings

PROXIES = ("10.0.0.0/8", "192.0.2.1", "fd00::/8")


def scope(peer: str | None, *headers: tuple[str, str]) -> Scope:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    client = (peer, 1234) if peer is not None else None
    return cast("Scope", {"type": "http", "client": client, "headers": raw})


def client_address(peer: str | None, *headers: tuple[str, str], trusted: Any = PROXIES) -> str:
    return ClientAddresses(trusted).of(scope(peer, *headers))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.5", "203.0.113.5"),
        # The client may have forged the addresses further left.
        ("198.51.100.1, 203.0.113.5", "203.0.113.5"),
        ("198.51.100.1, 203.0.113.5, 10.1.1.1,192.0.2.1", "203.0.113.5"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        # An unreadable entry ends the search: the proxy that reported it counts as the client.
        ("203.0.113.5, unknown", "10.0.0.1"),
        ("203.0.113.5, unknown, 10.3.3.3", "10.3.3.3"),
        ("", "10.0.0.1"),
        (", ,", "10.0.0.1"),
        ("203.0.113.5\xff", "10.0.0.1"),
    ],
)
def test_the_first_untrusted_address_from_the_right_is_the_clients(
    forwarded: str, client: str
) -> None:
    assert client_address("10.0.0.1", ("X-Forwarded-For", forwarded)) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("for=203.0.113.5;proto=https", "203.0.113.5"),
        ('for=198.51.100.1, For="[2001:db8::1]:4711";by=10.0.0.1', "2001:db8::1"),
        ("for=203.0.113.5, for=_hidden", "10.0.0.1"),
        ("by=10.0.0.9", "10.0.0.1"),
        ("for=", "10.0.0.1"),
    ],
)
def test_the_standard_forwarded_header_is_read_too(forwarded: str, client: str) -> None:
    assert client_address("10.0.0.1", ("Forwarded", forwarded)) == client


def test_several_header_lines_are_read_as_one_list() -> None:
    lines = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.5, 10.1.1.1")]
    assert client_address("10.0.0.1", *lines) == "203.0.113.5"


def test_two_headers_that_disagree_are_ignored() -> None:
    both = [("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=203.0.113.5")]
    assert client_address("10.0.0.1", *both) == "10.0.0.1"
    assert client_address("10.0.0.1", both[0], ("Forwarded", "for=198.51.100.1")) == "198.51.100.1"


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24",)])
def test_headers_of_untrusted_clients_are_ignored(trusted: tuple[str, ...]) -> None:
    header = ("X-Forwarded-For", "203.0.113.5")
    assert client_address("10.0.0.1", header, trusted=trusted) == "10.0.0.1"


def test_a_connection_without_a_peer_address_has_an_empty_client_address() -> None:
    assert client_address(None, ("X-Forwarded-For", "203.0.113.5")) == ""


def test_addresses_of_one_ipv6_64_network_share_a_client_key() -> None:
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert client_key("203.0.113.5") == "203.0.113.5"


def test_settings_report_an_invalid_entry() -> None:
    assert GatewaySettings(trusted_proxies="10.0.0.0/8, ::1").trusted_proxies == (
        "10.0.0.0/8",
        "::1",
    )
    for wrong in ("10.0.0.1/8", "proxy", "10.0.0.0/33"):
        with pytest.raises(ValueError, match="not an address or network"):
            GatewaySettings(trusted_proxies=wrong)


@pytest.mark.parametrize("mapped", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_may_be_written_as_an_ipv4_mapped_ipv6_address(
    mapped: str, peer: str
) -> None:
    assert (
        client_address(peer, ("X-Forwarded-For", "203.0.113.5"), trusted=(mapped,)) == "203.0.113.5"
    )


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "::ffff:0:0/96"])
def test_a_network_of_every_address_is_refused_as_a_trusted_proxy(network: str) -> None:
    with pytest.raises(ValueError, match="covers every address"):
        GatewaySettings(trusted_proxies=network)
