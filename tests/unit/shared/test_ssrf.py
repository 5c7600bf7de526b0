"""The egress policy: which addresses the services may call."""

from __future__ import annotations

import ipaddress

import pytest
from pydantic import ValidationError

from hogsend.contract.errors import InvalidRequest
from hogsend.service.settings.problems import describe_problems
from hogsend.service.settings.shared import OutboundSettings
from hogsend.service.ssrf import AllowedHost, EgressPolicy, is_public

INTERNAL = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a00:1::1",
    "2001:db8::1",
    "::10.0.0.1",
    "::ffff:0:169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "192.0.0.8",
    "192.0.0.192",
    "::ffff:192.0.0.192",
    "100:0:0:1::1",
    "4000::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", INTERNAL)
def test_an_internal_address_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "allowed"),
    [
        ("10.0.0.0/8", "anything.example", 80, "10.9.9.9", True),
        ("10.0.0.0/8", "anything.example", 80, "192.168.0.1", False),
        ("10.0.0.5", "10.0.0.5", 9, "10.0.0.5", True),
        ("10.0.0.5:8000", "10.0.0.5", 8000, "10.0.0.5", True),
        ("10.0.0.5:8000", "10.0.0.5", 8001, "10.0.0.5", False),
        ("10.0.0.5:8000", "posthog.internal", 8000, "10.0.0.5", True),
        ("10.0.0.5:8000", "10.0.0.5", 8000, "10.0.0.6", False),
        ("[fd00::5]:8000", "fd00::5", 8000, "fd00::5", True),
        ("fd00::/8", "x", 1, "fd00::5", True),
        ("PostHog.internal", "posthog.internal.", 80, "10.0.0.5", True),
        ("posthog.internal", "evil.internal", 80, "10.0.0.5", False),
        ("posthog.internal:443", "posthog.internal", 80, "10.0.0.5", False),
    ],
)
def test_an_entry_allows_only_the_network_or_host_and_port_that_it_names(
    entry: str, host: str, port: int, address: str, allowed: bool
) -> None:
    policy = EgressPolicy.of((entry,))
    assert policy.allows(host, port, ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("url", "is_listed"),
    [
        ("http://posthog.internal:8000/oauth/token/", True),
        ("http://posthog.internal:8001/", False),
        ("http://10.1.2.3/", True),
        ("http://192.168.0.1/", False),
        ("http://evil.example/", False),
    ],
)
def test_a_url_is_listed_if_an_entry_names_its_host_or_address(url: str, is_listed: bool) -> None:
    assert EgressPolicy.of(("posthog.internal:8000", "10.0.0.0/8", "::/0")).names(url) is is_listed


def test_a_url_of_the_operator_allows_its_host_on_its_port_only() -> None:
    policy = EgressPolicy.of((), "http://127.0.0.1:8010", None, "https://posthog.internal/prefix")
    loopback = ipaddress.ip_address("127.0.0.1")
    assert policy.allows("127.0.0.1", 8010, loopback)
    assert not policy.allows("127.0.0.1", 4222, loopback)
    assert policy.allows("posthog.internal", 443, ipaddress.ip_address("10.0.0.1"))
    assert not policy.allows("posthog.internal", 80, ipaddress.ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/x",
        "http://2130706433/",
        "http://0x7f.1:80/",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:4222",
        "http://a.localhost",
        "http://169.254.169.254./",
    ],
)
def test_a_url_with_an_internal_address_is_refused_with_the_fix(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"host: .*OUTBOUND_ALLOW"):
        EgressPolicy().check(url, "host")


def test_a_url_with_a_public_address_or_an_unresolved_name_is_accepted() -> None:
    for url in ("https://8.8.8.8/x", "https://us.posthog.com/x", "http://inside.example"):
        EgressPolicy().check(url, "host")
    EgressPolicy.of(("127.0.0.1:9",)).check("http://127.0.0.1:9", "host")


@pytest.mark.parametrize("entry", ["http://a.b/", "a b/c", "10.0.0.0/99", "u@h", "h:99999", ":80"])
def test_an_invalid_entry_of_outbound_allow_is_refused(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"."):
        AllowedHost.parse(entry)
    monkeypatch.setenv("OUTBOUND_ALLOW", f"10.0.0.0/8, {entry}")
    with pytest.raises(ValueError, match="outbound_allow") as raised:
        OutboundSettings()
    assert isinstance(raised.value, ValidationError)
    assert describe_problems(raised.value)[0].startswith("OUTBOUND_ALLOW: ")


def test_outbound_allow_is_a_list_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOUND_ALLOW", "10.0.0.0/8, posthog.internal:8000")
    assert OutboundSettings().outbound_allow == ("10.0.0.0/8", "posthog.internal:8000")
    monkeypatch.delenv("OUTBOUND_ALLOW")
    assert OutboundSettings().outbound_allow == ()
